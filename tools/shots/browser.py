"""Debian's chromium, driven by Playwright from requirements-browser.txt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.shots.scene import PASSWORD

# The headless shell draws no windows and needs a third less of a processor.
_KINDS = [Path("/usr/bin/chromium-headless-shell"), Path("/usr/bin/chromium")]
CHROMIUM = next(filter(Path.exists, _KINDS), _KINDS[0])
SCHEMES = ("light", "dark")
# It looks for nothing of its own on the network, and takes the scene's certificate.
_OPTIONS = (
    "--disable-gpu",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--ignore-certificate-errors",
)


@contextmanager
def browser() -> Iterator[Any]:
    """A browser, started once."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=[*_OPTIONS], headless=True
        )
        try:
            yield started
        finally:
            started.close()


def log_in(page: Any, url: str) -> None:
    """By the keyboard alone: the password has the focus."""
    page.goto(f"{url}/login")
    page.locator("#password:focus").wait_for()
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}/")
