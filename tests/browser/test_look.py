"""Both languages, both themes, a narrow sidebar.

With PICTURES=1 the pictures of the documentation are taken here.
"""

from __future__ import annotations

import json

import pytest

from tests.browser.conftest import Comfy
from tests.support import prompts
from tests.support.base_directory import ROOT
from tests.support.browser import TAB, Window, picture
from tests.support.comfy import ComfyServer

IMAGES = ROOT / "docs" / "images"
PRELOAD = """
models:
  - unet: tiny.safetensors
    name: sd3.5_medium
  - clip: clip_l.safetensors
    type: sd3
  - vae: taesd3
  - unet: flux1-dev.safetensors
    required: false
workflows:
  - path: {path}
    warmup: true
"""
WORDS = {
    "en": ("Degraded", "3 of 4 loaded", "text encoder", "Warm-ups"),
    "zh": ("降级", "已加载 3 / 4", "文本编码器", "预热"),
}


@pytest.fixture(scope="module")
def server(module_comfy: Comfy, tmp_path_factory: pytest.TempPathFactory) -> ComfyServer:
    workflow = tmp_path_factory.mktemp("workflows") / "portrait.json"
    graph = prompts.image(vae="taesd3")
    workflow.write_text(json.dumps(graph), encoding="utf-8")
    started = module_comfy(preload=PRELOAD.format(path=workflow))
    started.run(graph)
    return started


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("locale", list(WORDS))
def test_language_and_theme(window: Window, locale: str, theme: str) -> None:
    """The panel follows ComfyUI's settings while it is open.

    Text and ground differ enough to read (WCAG AA).
    """
    window.set("Comfy.Locale", locale)
    window.set("Comfy.ColorPalette", theme)
    window.wait(WORDS[locale][0])
    text = window.panel.inner_text()
    for word in WORDS[locale]:
        assert word in text
    assert locale == window.panel.get_attribute("lang")
    window.wait_for_animations()
    for part in (
        ".cp-status",
        ".cp-name",
        ".cp-state",
        ".cp-fine .cp-what",
        ".cp-message",
        ".cp-hint",
        ".cp-link",
    ):
        assert contrast(window, part) >= 4.5, part
    picture(IMAGES / f"panel-{theme}-{locale}.png", window.panel)
    if locale == "en":
        picture(IMAGES / f"window-{theme}.png", window.page.locator("body"))


def contrast(window: Window, part: str) -> float:
    """The least contrast of text against what is behind it, over all elements that match."""
    return window.panel.evaluate(CONTRAST, part)


def test_narrow_sidebar(window: Window) -> None:
    """At the least width that ComfyUI allows nothing sticks out and no button is lost."""
    window.page.evaluate("document.querySelector('.cp-panel').style.width = '190px'")
    window.wait_for_animations()
    assert window.panel.evaluate("panel => panel.scrollWidth <= panel.clientWidth")
    for button in window.panel.get_by_role("button").all():
        box = button.bounding_box()
        assert box is None or box["width"] > 16
    window.page.evaluate("document.querySelector('.cp-panel').style.width = ''")


def test_settings_window(window: Window) -> None:
    """Both settings are there, in the language of the interface.

    The token is a password field that ComfyUI does not store.
    """
    window.set("Comfy.Locale", "zh")
    window.load()
    window.call("Comfy.ShowSettingsDialog")
    window.page.get_by_role("dialog").get_by_text("模型预加载", exact=True).first.click()
    field = window.page.locator("input.cp-token[type=password]").last
    field.wait_for()
    assert window.page.get_by_text("预加载完成或失败时通知我").is_visible()
    field.fill("secret")
    field.blur()
    assert "secret" == window.page.evaluate("localStorage.getItem('ComfyPreload.Token')")
    window.page.keyboard.press("Escape")
    window.set("Comfy.Locale", "en")
    assert window.page.locator(TAB).is_visible()


def test_example_workflows(window: Window) -> None:
    """Each loads into the editor, all its nodes are there, and the prompt made from it has ours."""
    examples = sorted((ROOT / "example_workflows").glob("*.json"))
    assert [path.stem for path in examples] == window.page.evaluate(
        "fetch('/workflow_templates').then(answer => answer.json()).then(found => "
        "found['comfyui-preload'].sort())"
    )
    for path in examples:
        assert path.with_suffix(".jpg").is_file()
        graph = json.loads(path.read_text(encoding="utf-8"))
        script = (
            "async graph => { await window.app.loadGraphData(graph); return (await "
            "window.app.graphToPrompt()).output; }"
        )
        classes = [node["class_type"] for node in window.page.evaluate(script, graph).values()]
        assert len(graph["nodes"]) == len(classes)
        assert any(name.startswith("ComfyPreload_") for name in classes)


def test_help_pages(window: Window) -> None:
    """Where ComfyUI looks for them: in Chinese, and for every other language in English."""
    for node in ("ComfyPreload_Model", "ComfyPreload_Status"):
        for page in (f"{node}.md", f"{node}/zh.md"):
            path = f"/extensions/comfyui-preload/docs/{page}"
            assert 200 == window.page.evaluate("path => fetch(path).then(answer => answer.status)", path)


CONTRAST = """(panel, part) => {
  const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const mix = (above, below, a) => above * a + below * (1 - a);
  const over = ([r, g, b, a], [x, y, z]) => [mix(r, x, a), mix(g, y, a), mix(b, z, a), 1];
  const behind = (node) => {
    const layers = [];
    for (let one = node; one; one = one.parentElement) {
      layers.push(rgba(getComputedStyle(one).backgroundColor));
    }
    return layers.reverse().reduce((ground, layer) => over(layer, ground), [255, 255, 255, 1]);
  };
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (rgb) => rgb.slice(0, 3).map((v) => linear(v / 255))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const shown = (node) => node.offsetParent && node.textContent.trim();
  const seen = [...panel.querySelectorAll(part)].filter(shown);
  return Math.min(...seen.map((node) => {
    const ground = behind(node);
    const [a, b] = [light(over(rgba(getComputedStyle(node).color), ground)), light(ground)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
}"""
