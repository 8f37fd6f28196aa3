"""docs/errors.md is what tools/errors_doc.py makes of the table of errors."""

from __future__ import annotations

import re
import string

import pytest

from comfy_preload.core.error_table import ERRORS, SECTIONS
from tools.errors_doc import FILE, text


def test_up_to_date() -> None:
    """If this fails, run `python -m tools.errors_doc`."""
    assert text() == FILE.read_text(encoding="utf-8")


def test_sections() -> None:
    """Every code is in one section."""
    assert len(ERRORS) == sum(len(section.errors) for section in SECTIONS)


@pytest.mark.parametrize("code", ERRORS)
def test_example(code: str) -> None:
    """The example has the values of both templates and no other."""
    kind = ERRORS[code]
    places = {
        name
        for part in (kind.sentence, kind.hint)
        for _, name, _, _ in string.Formatter().parse(part)
        if name
    }

    assert places == kind.example.keys()


@pytest.mark.parametrize("code", ERRORS)
def test_words(code: str) -> None:
    """Sentences say *expected*, and none of the words that CONTRIBUTING.md rules out."""
    kind = ERRORS[code]

    for words in (kind.meaning, kind.sentence, kind.hint, kind.more):
        assert not re.search(
            r"\b(wanted|anew|whoever|told|tells|so many|stands)\b|(?<![Tt]here )\bis no\b", words
        ), words
