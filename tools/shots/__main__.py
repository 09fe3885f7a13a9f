"""`make shots`: a picture of each page of the desk into docs/desk/, or another folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tools.shots.browser import SCHEMES, browser, log_in
from tools.shots.scene import PAGES, ROOT, served

WIDE, NARROW = 1100, 360
# A page whose best is further down, and one that shows more once a button is pressed.
HIGH, TALL = 800, {"rule": 1350, "today": 1250, "journey": 1500, "worklist": 1700}
PRESSED = {"journey": "Show names, addresses and messages"}


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(prog="python -m tools.shots", description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "desk")
    parser.add_argument("--all", action="store_true", help="each page whole, wide and narrow")
    wanted = parser.parse_args()
    wanted.into.mkdir(parents=True, exist_ok=True)
    with served() as url, browser() as started:
        for scheme in SCHEMES:
            for width in (WIDE, NARROW):
                context = started.new_context(
                    color_scheme=scheme, viewport={"width": width, "height": HIGH}
                )
                page = context.new_page()
                log_in(page, url)
                for name, path in PAGES.items():
                    if wanted.all or _is_shown(name, scheme, width):
                        height = 3000 if wanted.all else TALL.get(name, HIGH)
                        page.set_viewport_size({"width": width, "height": height})
                        page.goto(url + path, wait_until="networkidle")
                        if name in PRESSED:
                            page.get_by_role("button", name=PRESSED[name]).click()
                            page.wait_for_load_state("networkidle")
                        _take(page, wanted, f"{name}{_mark(scheme, width)}")
                context.close()


def _is_shown(name: str, scheme: str, width: int) -> bool:
    """The docs have each page in one light, and the first one in all."""
    return name == "today" or (scheme == "light" and width == WIDE)


def _mark(scheme: str, width: int) -> str:
    return ("-dark" if scheme == "dark" else "") + ("-narrow" if width == NARROW else "")


def _take(page: Any, wanted: argparse.Namespace, name: str) -> None:
    page.screenshot(path=wanted.into / f"{name}.png", full_page=wanted.all, scale="css")


if __name__ == "__main__":
    main()
