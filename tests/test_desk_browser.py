"""The desk in a real browser: by the keyboard, narrow, in light and dark, with scripts and without.

Needs Debian's chromium and requirements-browser.txt, which .ci/run installs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shots.browser import CHROMIUM, browser, log_in
from shots.scene import ERASED, ERASING, PAGES, served

pytest.importorskip("playwright", reason="needs requirements-browser.txt")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium"),
    pytest.mark.xdist_group("browser"),  # one process of tests starts one
]

PATHS = (*PAGES.values(), f"/erasure/{ERASING}", "/login")
NARROW = {"width": 360, "height": 740}
BROKEN = "[rules.kit-shipped]\nevent = 'order.shiped'\n"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A desk with something on it."""
    with served() as url:
        yield url


@pytest.fixture(scope="module")
def started() -> Iterator[Any]:
    """The browser, started once."""
    with browser() as started:
        yield started


def opened(url: str, started: Any, scheme: str) -> Any:
    """A page 360 pixels wide in which somebody has logged in, and what went wrong on it."""
    page = started.new_context(color_scheme=scheme, viewport=NARROW).new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda said: said.type == "error" and page.faults.append(said.text))
    log_in(page, url)
    return page


@pytest.fixture(scope="module")
def page(url: str, started: Any) -> Any:
    """One in light."""
    return opened(url, started, "light")


def judge(page: Any, *rules: str) -> None:
    """Nothing that axe finds wrong, nothing wider than the page, no script or policy at fault."""
    only = {"runOnly": rules} if rules else {}
    found = axe.Axe().run(page, options={"iframes": False, **only})
    assert found.violations_count == 0, f"{page.url}: {found.generate_report()}"
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], page.url
    assert page.faults == []


def test_every_page_is_for_everybody(page: Any, url: str) -> None:
    """Each page holds what axe asks for, and fits a small phone."""
    for path in PATHS:
        page.goto(url + path)
        judge(page)


def test_every_page_is_read_in_the_dark(url: str, started: Any) -> None:
    """The dark look has colours of its own: they contrast as they must."""
    page = opened(url, started, "dark")
    for path in PATHS:
        page.goto(url + path)
        judge(page, "color-contrast")


def test_an_edit_is_tried_by_the_keyboard(page: Any, url: str) -> None:
    """Tab leads to the text and to its button, and the mistakes are where one looks next."""
    page.goto(f"{url}/rules")
    page.locator("#text").focus()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(BROKEN)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("Did you mean").first.wait_for()
    assert page.url.endswith("/rules#tried")
    judge(page)


def test_the_pages_are_reached_by_the_keyboard(page: Any, url: str) -> None:
    """The first Tab offers to skip the head; the next ones go through the pages in order."""
    page.goto(url)
    focused = []
    for _ in range(8):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.innerText.split('\\n')[0].trim()"))
    assert focused[0] == "Skip to the page"
    assert focused[1:3] == ["Today", "Journeys"]
    assert "Log out" in focused
    page.keyboard.press("Shift+Tab")


def test_today_looks_again(page: Any, url: str) -> None:
    """The script puts what has changed into the page as it stands, an opened table left open."""
    page.goto(url)
    page.evaluate("document.querySelector('details').open = true")
    page.evaluate("document.querySelector('h1').textContent = 'Old'")
    page.evaluate("look()")
    page.get_by_role("heading", name="Today", exact=True).wait_for()
    assert page.evaluate("document.querySelector('details').open")
    assert page.faults == []


def test_an_erasure_is_asked_for_and_followed(page: Any, url: str) -> None:
    """From the address to the page that says how it stands; there is no address in its link."""
    page.goto(f"{url}/suppressions")
    page.fill("#address", "07700 900126")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Show what there is").click()
    page.fill("#note", "Asked in writing.")
    judge(page)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="To be erased").wait_for()
    assert "/erasure/era_" in page.url
    judge(page)


def test_an_erasure_that_is_done_says_so_by_itself(page: Any, url: str) -> None:
    """The page, its title and what a screen reader hears change with it; then it looks no more."""
    page.goto(f"{url}/erasure/{ERASING}")
    page.get_by_role("heading", name="Being erased").wait_for()
    page.evaluate(f"shown.dataset.again = '/erasure/{ERASED}?again=1'; look()")
    page.get_by_role("heading", name="Not all is erased").wait_for()
    assert page.title().startswith("Not all is erased")
    assert "Not all" in page.locator(".sr[role=status]").inner_text()
    assert page.evaluate("shown.dataset.again") == ""
    judge(page)


def test_without_scripts_all_of_it_works(url: str, started: Any) -> None:
    """Logged in, an edit tried, and a test sent, with JavaScript off."""
    context = started.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, url)
    page.goto(f"{url}/rule?name=kit-shipped")
    page.fill("#address", "07700 900001")
    page.keyboard.press("Enter")
    page.get_by_text("not sent: delivery is dry-run").wait_for()
    assert page.locator('noscript, meta[http-equiv="refresh"]').count() == 0
    page.goto(url)
    assert page.locator('meta[http-equiv="refresh"]').count() == 1
    page.goto(f"{url}/erasure/{ERASING}")
    assert page.locator('meta[http-equiv="refresh"]').count() == 1
    page.goto(f"{url}/erasure/{ERASED}")
    assert page.locator('meta[http-equiv="refresh"]').count() == 0
    context.close()
