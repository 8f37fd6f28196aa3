"""A real browser: Debian's Chromium, driven by playwright, showing a running ComfyUI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from .comfy import ComfyServer
from .reply import ask

if TYPE_CHECKING:  # imported on use: other tests do not depend on it
    from playwright.sync_api import Locator, Page

ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
CLIPBOARD = ["clipboard-read", "clipboard-write"]
QUIET = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.Workflow.ShowMissingNodesWarning": False,
    "Comfy.VersionCompatibility.DisableWarnings": True,
    "Comfy.Minimap.Visible": False,
}
"""Settings that keep ComfyUI's own dialogs off the page."""
TAB = ':is(nav, .side-tool-bar-container) button:is([aria-label="Preload"], [aria-label="模型预加载"])'
"""By its name: front end 1.58 has no class of the tab any more."""
PANEL = ".cp-panel:not(dialog)"
TIMEOUT_MS = 15_000


def chromium() -> str | None:
    """Return Chromium's path or None: `CHROMIUM` names it, or else the PATH is searched."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@final
class Window:
    """One page with ComfyUI's front end. Remembers every error that the console showed."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.errors: list[str] = []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", lambda m: self._note(m.type, m.text, m.location.get("url", "")))
        page.on("pageerror", lambda error: self.errors.append(f"{error} {error.stack or ''}"))

    def _note(self, kind: str, text: str, url: str) -> None:
        if kind == "error":
            self.errors.append(f"{text} ({url})")

    @property
    def panel(self) -> Locator:
        return self.page.locator(PANEL)

    @property
    def status(self) -> Locator:
        return self.panel.locator(".cp-status")

    @property
    def badge(self) -> str:
        """Return the badge on the tab's icon."""
        return "".join(self.page.locator(TAB).locator(".p-badge, .sidebar-icon-badge").all_inner_texts())

    @property
    def toasts(self) -> Locator:
        return self.page.locator(".p-toast-message")

    def load(self) -> None:
        """Load the page and wait for the panel's icon."""
        self.page.goto(self.url)
        self.page.wait_for_selector(TAB, timeout=60_000)

    def open_panel(self) -> None:
        if not self.panel.is_visible():
            self.page.click(TAB)
        self.panel.wait_for()

    def row(self, model: str) -> Locator:
        """Return the row of one model."""
        return self.panel.locator(f'.cp-model[data-key="{model}"]')

    def state(self, model: str) -> str | None:
        return self.row(model).get_attribute("data-state")

    def button(self, name: str) -> Locator:
        """Return a button of the panel by its accessible name."""
        return self.panel.get_by_role("button", name=name, exact=True)

    def wait(self, status: str) -> None:
        """Wait until the panel shows this status, in the panel's language."""
        self.panel.locator(".cp-status", has_text=status).wait_for()

    def wait_until(self, condition: Callable[[], bool], what: str, deadline: float = 15.0) -> None:
        """Wait until the condition is true. The page keeps running meanwhile."""
        for _ in range(int(deadline / 0.05)):
            if condition():
                return
            self.page.wait_for_timeout(50)
        raise TimeoutError(f"not {what} after {deadline:g} s:\n{self.panel.inner_text()}")

    def wait_for_animations(self) -> None:
        """Wait until animations have ended, for a picture."""
        self.page.wait_for_timeout(400)

    def set(self, setting: str, value: Any) -> None:
        """Change a setting of ComfyUI, as its settings window does."""
        self.page.evaluate(
            "([name, value]) => window.app.extensionManager.setting.set(name, value)", [setting, value]
        )

    def call(self, command: str) -> None:
        """Run a command of ComfyUI, as its menus do."""
        self.page.evaluate("name => window.app.extensionManager.command.execute(name)", command)

    def own_errors(self) -> list[str]:
        """Return errors from our scripts or from requests to our routes."""
        return [text for text in self.errors if "comfyui-preload" in text or "/preload" in text]


@contextmanager
def open_window(
    server: ComfyServer, *, width: int = 1280, height: int = 900, load: bool = True
) -> Iterator[Window]:
    """Open a browser with one page on that server, and close both afterwards."""
    from playwright.sync_api import sync_playwright

    for name, value in QUIET.items():
        ask(f"{server.url}/api/settings/{name}", method="POST", body=value)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        try:
            page = browser.new_page(viewport={"width": width, "height": height}, permissions=CLIPBOARD)
            page.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")
            window = Window(page, server.url)
            if load:
                window.load()
            yield window
        finally:
            browser.close()


def picture(path: Path, locator: Locator) -> None:
    """Save a picture for the documentation if PICTURES=1."""
    if os.environ.get("PICTURES"):
        path.parent.mkdir(parents=True, exist_ok=True)
        locator.screenshot(path=path)
