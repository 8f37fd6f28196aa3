"""Which widgets the editor gives a node, in which order, and what each of them sends.

A file stores the values of a node's widgets by position. So what counts is which widgets there are: inputs
that are widgets, and others that the editor adds by itself, some of which are stored but not sent. Source:
src/services/litegraphService.ts, src/scripts/widgets.ts and src/extensions/core of ComfyUI_frontend.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfy_preload.core.node_types import NO_DEFAULT, PLAIN_TYPES, NodeInput, NodeSpec, inputs_of, plain

DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
MATCH_TYPE = "COMFY_MATCHTYPE_V3"
AUTOGROW = "COMFY_AUTOGROW_V3"
WIDGET_TYPES = PLAIN_TYPES | frozenset(
    "MARKDOWN TEXTAREA COLOR COLORS CHART GALLERIA IMAGECOMPARE CURVE RANGE BOUNDING_BOX BOUNDING_BOXES "
    f"PAINTER COMPOSITOR VIDEO_EDIT WEBCAM AUDIO_RECORD LOAD_3D PREVIEW_3D {DYNAMIC_COMBO}".split()
)
"""Types that the editor has a widget for; an input of any other is a socket only."""

_DEFAULTS: Mapping[str, Any] = {
    "INT": 0,
    "FLOAT": 0,
    "BOOLEAN": False,
    "STRING": "",
    "COLOR": "#000000",
    "IMAGECOMPARE": ("", ""),
}
_UPLOADS = ("image_upload", "video_upload", "animated_image_upload", "audio_upload")
UNSET: Any = object()
"""What a widget holds that has no value; nothing is sent for it."""
_DEPTH = 50
_COMMENT = re.compile(r"/\*|//")


@dataclass
class Widget:
    """One widget of one node, and the value it holds."""

    name: str
    value: Any = UNSET
    input: NodeInput | None = None
    """None for what the editor adds."""
    sent: bool = True
    """Others only have a place in `widgets_values`: buttons, control_after_generate."""

    @property
    def is_set(self) -> bool:
        return self.value is not UNSET

    def to_send(self) -> Any:
        """The value as it goes into the prompt."""
        value = self.value
        if self.input is None:
            return boxed(value)
        if isinstance(value, str) and self.input.flag("dynamicPrompts"):
            value = first_choice(value)
        if _uploads(self.input):
            value = _annotated(value, self.input)
        return boxed(value)


@dataclass(frozen=True)
class Layout:
    """What a node of one class looks like: its sockets and its widgets, each in the editor's order."""

    sockets: tuple[NodeInput, ...]
    widgets: tuple[Widget, ...] = field(default_factory=tuple)


def layout(spec: NodeSpec) -> Layout:
    """The sockets and widgets of a node as it is made, before a file's values are put in."""
    sockets = tuple(i for i in spec.inputs if not is_widget(i) and i.type != AUTOGROW)
    widgets = [w for i in spec.inputs if is_widget(i) for w in widgets_of(i)]
    if any(i.required and i.type == "COMBO" and _uploads(i) for i in spec.inputs):
        widgets.append(Widget("upload", sent=False))
    return Layout(sockets, tuple(widgets))


def is_widget(declared: NodeInput) -> bool:
    return str(declared.extra.get("widgetType") or declared.type) in WIDGET_TYPES and not declared.flag(
        "forceInput"
    )


def socket_type(declared: NodeInput) -> str:
    """The type of links that an input takes."""
    if declared.type == MATCH_TYPE:
        template = declared.extra.get("template")
        allowed = template.get("allowed_types") if isinstance(template, Mapping) else None
        return allowed if isinstance(allowed, str) else "*"
    return declared.type


def filled(spec: NodeSpec, values: Any) -> dict[str, Widget]:
    """The node's widgets by name, holding the values of a file or their defaults."""
    named = values if isinstance(values, dict) else None
    places = deque(_without_dummies(spec, values) if isinstance(values, list) else ())
    todo = deque(layout(spec).widgets)
    found: dict[str, Widget] = {}
    while todo:
        made = todo.popleft()
        widget = Widget(made.name, made.value, made.input, made.sent)
        if named is not None:
            widget.value = named.get(widget.name, widget.value)
        elif places:
            widget.value = places.popleft()
        if widget.input is not None:
            widget.value = _held(widget.value, widget.input)
            todo.extendleft(reversed(_opened(widget)))
        if widget.sent:
            found[widget.name] = widget
    if spec.name == "CustomCombo":
        _add_options(found, list(places))
    return found


def _add_options(widgets: dict[str, Widget], values: list[Any]) -> None:
    """CustomCombo's options are in the file alone, behind the place of `index`, which is counted again.

    Source: customWidgets.ts.
    """
    options = values[1:]
    choice = next(iter(widgets.values())).value if widgets else UNSET
    widgets["index"] = Widget("index", options.index(choice) if choice in options else -1)
    widgets |= {f"option{i}": Widget(f"option{i}", value) for i, value in enumerate(options, 1)}


def widgets_of(declared: NodeInput) -> Iterable[Widget]:
    if declared.type == "LOAD_3D":
        yield from (
            Widget(button, sent=False) for button in ("upload 3d model", "upload extra resources", "clear")
        )
    yield Widget(declared.name, default_of(declared), declared)
    control = declared.extra.get("control_after_generate")
    if control is None and declared.type == "INT":
        control = declared.name in ("seed", "noise_seed")
    if control and declared.type in ("INT", "FLOAT", "COMBO"):
        yield Widget(f"{declared.name} control_after_generate", sent=False)
        if declared.type == "COMBO":
            yield Widget(f"{declared.name} control_filter_list", sent=False)


def default_of(declared: NodeInput) -> Any:
    """What a new widget holds."""
    if declared.type == DYNAMIC_COMBO:
        return next(iter(_choices(declared)), UNSET)
    if declared.default is not NO_DEFAULT and (declared.default or declared.type != "COMBO"):
        return declared.default if declared.default is not None else _DEFAULTS.get(declared.type)
    if declared.type == "COMBO":
        return (
            declared.options[0]
            if declared.options
            else "Loading..."
            if declared.extra.get("remote")
            else UNSET
        )
    return _DEFAULTS.get(declared.type, UNSET)


def _choices(declared: NodeInput) -> dict[str, Any]:
    options = declared.extra.get("options")
    rows = options if isinstance(options, list | tuple) else ()
    return {str(plain(row.get("key"))): row.get("inputs") for row in rows if isinstance(row, Mapping)}


def _opened(widget: Widget) -> list[Widget]:
    """The widgets that a dynamic combo brings with the value it holds."""
    if widget.input is None or widget.input.type != DYNAMIC_COMBO or not isinstance(widget.value, str):
        return []
    chosen = _choices(widget.input).get(widget.value)
    if not isinstance(chosen, Mapping):
        return []
    return [w for i in inputs_of(chosen, f"{widget.name}.") if is_widget(i) for w in widgets_of(i)]


def _without_dummies(spec: NodeSpec, values: list[Any]) -> list[Any]:
    """Old editors stored a value for `forceInput` inputs too.

    Source: migrateWidgetsValues, src/utils/litegraphUtil.ts.
    """
    dummies: list[bool] = []
    for declared in spec.inputs:
        if declared.flag("forceInput"):
            dummies.append(True)
        elif is_widget(declared):
            dummies += [False] * len(list(widgets_of(declared)))
    if not any(dummies) or len(dummies) != len(values):
        return values
    return [value for value, dummy in zip(values, dummies, strict=True) if not dummy]


def _held(value: Any, declared: NodeInput) -> Any:
    """A text area turns what is put into it into text, and a comparison forgets the images it showed."""
    if declared.type == "IMAGECOMPARE":
        return _DEFAULTS[declared.type]
    if declared.type != "STRING" or not declared.flag("multiline"):
        return value
    return (
        ""
        if value is None
        else value.replace("\r\n", "\n").replace("\r", "\n")
        if isinstance(value, str)
        else value
    )


def _uploads(declared: NodeInput) -> bool:
    return any(declared.extra.get(name) is True for name in _UPLOADS)


def _annotated(value: Any, declared: NodeInput) -> Any:
    """An upload widget names the folder of its file if it is not `input` (createAnnotatedPath.ts)."""
    if isinstance(value, list) and not declared.flag("allow_batch"):
        value = value[0] if value else None
    if not value:
        value = default_of(declared)
        return "undefined" if value is UNSET else value
    folder = declared.extra.get("image_folder", "input")
    if (
        not isinstance(value, str)
        or folder == "input"
        or re.search(r"\[(?:input|output|temp)\]", value, re.IGNORECASE)
    ):
        return value
    return f"{value} [{folder}]"


def boxed(value: Any) -> Any:
    """As JSON written by a browser: 1.0 is 1, and a list is wrapped so that it is not taken for a link."""
    if isinstance(value, list | tuple):
        return {"__value__": list(value)}
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else value


def first_choice(text: str, depth: int = 0) -> str:
    """`{a|b}` -> a, comments cut out (processDynamicPrompt).

    The editor draws lots; here the first one always wins.
    """
    text = _without_comments(text)
    if "{" not in text or depth > _DEPTH:
        return re.sub(r"\\([{}|])", r"\1", text)
    out: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            out.append(text[at : at + 2])
            at += 2
        elif char == "{":
            chosen, at = _block(text, at + 1)
            out.append(first_choice(chosen, depth + 1))
        else:
            out.append(char)
            at += 1
    return re.sub(r"\\([{}|])", r"\1", "".join(out))


def _without_comments(text: str) -> str:
    """Both kinds of C comments cut out.

    By hand: a regular expression takes quadratic time on comments that never end.
    """
    kept: list[str] = []
    at = 0
    while (begin := _COMMENT.search(text, at)) is not None:
        block = begin.group() == "/*"
        end = text.find("*/" if block else "\n", begin.end())
        if block and end < 0:  # none of those that follow ends either
            rest = text[begin.start() :]
            return "".join([*kept, text[at : begin.start()], re.sub(r"//.*", "", rest)])
        kept.append(text[at : begin.start()])
        at = len(text) if end < 0 else end + 2 * block
    return "".join([*kept, text[at:]])


def _block(text: str, at: int) -> tuple[str, int]:
    """The first option of the block that begins at `at`, and where the block ends."""
    begun, end, depth = at, -1, 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif char == "{":
            depth += 1
        elif char == "}" and not depth:
            return text[begun : end if end >= 0 else at], at + 1
        elif char == "}":
            depth -= 1
        elif char == "|" and not depth and end < 0:
            end = at
        at += 1
    return text[begun : end if end >= 0 else len(text)], len(text)
