"""The desk in a real browser: by the keyboard, narrow, in light and dark, with scripts and without.

Needs Debian's chromium and requirements-browser.txt, which .ci/run installs.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest

from relay.lab import events
from relay.lab.events import EVENTS, parse
from relay.web.desk import system
from tools.shots.browser import CHROMIUM, browser, log_in
from tools.shots.scene import ERASED, ERASING, KIT, PAGES, served

expect = pytest.importorskip("playwright.sync_api", reason="needs requirements-browser.txt").expect
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium"),
    pytest.mark.xdist_group("browser"),  # one process of tests starts one
]

PATHS = (*PAGES.values(), f"/erasure/{ERASING}", "/login")
NARROW = {"width": 320, "height": 740}  # WCAG's reflow: 1280 pixels at 400 %
WIDER = (360, 640, 768, 1280)  # a phone, 1280 pixels at 200 %, a tablet, a computer
SCREEN = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 800}
SOURCE = "file?name=templates/kit_shipped/sms.txt&as=source"
VNU = os.environ.get("VNU_JAR", "")


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
    """A page 320 pixels wide in which somebody has logged in, and what went wrong on it."""
    # Without motion: colours on their way from light to dark contrast less.
    look = {"color_scheme": scheme, "reduced_motion": "reduce", "viewport": NARROW}
    page = started.new_context(**look).new_page()
    page.set_default_timeout(10_000)
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda said: said.type == "error" and page.faults.append(said.text))
    log_in(page, url)
    return page


@pytest.fixture(scope="module")
def page(url: str, started: Any) -> Any:
    """One in light."""
    return opened(url, started, "light")


def sideways(page: Any) -> int:
    """How wide a page has become."""
    return int(page.evaluate("document.documentElement.scrollWidth"))


def judge(page: Any, *rules: str) -> None:
    """Nothing that axe finds wrong, nothing wider than the page, no script or policy at fault."""
    only = {"runOnly": rules} if rules else {}
    found = axe.Axe().run(page, options={"iframes": False, "resultTypes": ["violations"], **only})
    assert found.violations_count == 0, f"{page.url}: {found.generate_report()}"
    assert sideways(page) <= page.viewport_size["width"], page.url
    assert page.faults == []


def judge_both(page: Any) -> None:
    """Judge a page as it stands, and its colours in the dark."""
    judge(page)
    page.emulate_media(color_scheme="dark")
    judge(page, "color-contrast")
    page.emulate_media(color_scheme="light")


def judge_sizes(page: Any) -> None:
    """Judge a page in light and dark on a phone and on a computer; it stays as wide as it is."""
    here = page.viewport_size
    for size in (SCREEN, PHONE):
        page.set_viewport_size(size)
        judge_both(page)
    page.set_viewport_size(here)


def test_every_page_is_for_everybody(page: Any, url: str) -> None:
    """Each page holds what axe asks for, and fits the smallest phone and whatever is wider, also
    with letters twice as large. The dark look has colours of its own: they contrast as they must.
    """
    for path in PATHS:
        page.goto(url + path)
        judge_both(page)
        for width in WIDER:
            page.set_viewport_size({**NARROW, "width": width})
            assert sideways(page) <= width, (path, width)
        page.evaluate("document.documentElement.style.fontSize = '200%'")
        assert sideways(page) <= width, (path, "large letters")
        page.set_viewport_size(NARROW)


def test_every_page_is_three_screens_at_most(page: Any, url: str) -> None:
    """With something of each kind on it: also a kit's page with all shown, each case by itself, and
    a rule and an email that are edited.
    """
    page.set_viewport_size(SCREEN)
    draft = begun(page, url, "High")
    page.goto(f"{url}/worklist")
    by_itself = [f"{url}/case/{id_}" for id_ in cases_of(page)]
    edited = [
        f"{draft}/rule?name=kit-shipped",
        f"{draft}/{SOURCE.replace('sms.txt', 'email.html')}",
    ]
    for path in (*(url + path for path in PATHS), *by_itself, *edited):
        page.goto(path)
        assert screens(page) <= 3, path
    page.goto(f"{url}{PAGES['journey']}")
    page.get_by_role("button", name="Show names, addresses and messages").click()
    told(page, "Shown; the audit trail")
    assert screens(page) <= 3
    page.set_viewport_size(NARROW)


def cases_of(page: Any) -> list[str]:
    """The ids of the cases on the worklist."""
    return list(page.evaluate("[...document.querySelectorAll('article.case')].map((it) => it.id)"))


def screens(page: Any) -> float:
    """How many screens high a page is."""
    return float(page.evaluate("document.documentElement.scrollHeight / innerHeight"))


@pytest.mark.parametrize("scripts", [True, False])
def test_a_link_leads_to_its_case(url: str, started: Any, scripts: bool) -> None:
    """It stands open and in sight, as the first one does, though the others are folded; with
    scripts and without, on a computer and on a phone.
    """
    context = started.new_context(java_script_enabled=scripts, viewport=SCREEN)
    page = context.new_page()
    log_in(page, url)
    page.goto(f"{url}/worklist")
    cases = cases_of(page)
    assert page.locator(".why[open]").count() == 1
    for size in (SCREEN, NARROW):
        page.set_viewport_size(size)
        for id_ in (cases[0], cases[7], cases[-1]):
            page.goto(url)
            page.goto(f"{url}/worklist#{id_}")
            expect(page.locator(f"#h-{id_}")).to_be_in_viewport()
            expect(page.locator(f"#{id_} .why p").first).to_be_in_viewport()
    context.close()


@pytest.mark.parametrize("name", ["worklist", "journey"])
def test_what_is_folded_is_opened_by_the_keyboard(page: Any, url: str, name: str) -> None:
    """All of it; open, it is for everybody on a phone and on a computer, in light and dark."""
    page.goto(url + PAGES[name])
    for fold in page.locator("main details:not([open]) > summary").element_handles():
        fold.press("Enter")
    assert page.locator("main details:not([open])").count() == 0
    judge_both(page)
    page.set_viewport_size(SCREEN)
    judge_both(page)
    page.set_viewport_size(NARROW)


@pytest.mark.skipif(not VNU, reason="needs VNU_JAR, the Nu HTML checker's")
def test_every_page_is_valid_html(page: Any, url: str, tmp_path: Path) -> None:
    """A second judge finds no error in what is served."""
    for number, path in enumerate(PATHS):
        served = page.request.get(url + path, ignore_https_errors=True).text()
        name = "-".join(re.findall("[a-z]+", path))
        (tmp_path / f"{number}{name}.html").write_text(served, "utf-8")
    judged = subprocess.run(
        ["java", "-jar", VNU, "--errors-only", "--no-langdetect", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (judged.returncode, judged.stderr) == (0, "")


def test_a_rule_is_stopped_by_the_keyboard(page: Any, url: str) -> None:
    """What, why, and the button follow one another; Enter in the reason presses nothing. What is
    stopped stands on the page, and on every other, until it is resumed.
    """
    page.goto(f"{url}/stop")
    page.locator("#what").focus()
    page.keyboard.type("Messages of the rule kit-shipped")
    page.keyboard.press("Tab")
    page.keyboard.type("The portal's link is wrong.")
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="kit-shipped are stopped").wait_for()
    for path in ("/stop", "/"):
        page.goto(url + path)
        assert page.locator(".halt").count() == 1
        judge_both(page)
    page.goto(f"{url}/stop")
    page.get_by_role("button", name="Resume messages").press("Enter")
    page.get_by_text("nothing is stopped").wait_for()


def test_the_pages_are_reached_by_the_keyboard(page: Any, url: str) -> None:
    """The first Tab offers to skip the head; the next ones go through the pages in order."""
    page.goto(url)
    focused = []
    for _ in range(12):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.innerText.split('\\n')[0].trim()"))
    assert focused[0] == "Skip to the page"
    assert focused[1:3] == ["Today", "Activity"]
    assert focused[-1].startswith("Log out")
    page.keyboard.press("Shift+Tab")


def test_today_looks_again(page: Any, url: str) -> None:
    """The script puts what has changed into the page as it stands, an opened table left open."""
    page.goto(f"{url}/activity")
    page.evaluate("document.querySelector('details').open = true")
    page.evaluate("document.querySelector('h1').textContent = 'Old'")
    page.evaluate("look()")
    page.get_by_role("heading", name="Activity", exact=True).wait_for()
    assert page.evaluate("document.querySelector('details').open")
    assert page.faults == []


def test_a_click_on_its_text_does_not_stop_it(page: Any, url: str) -> None:
    """Whoever has clicked on the page, or marked a word of it, still gets it fresh; not whoever is
    on one of its links.
    """
    page.goto(url)
    page.locator(".needs .what").first.dblclick()
    assert page.evaluate("document.activeElement.id") == "main"
    page.evaluate("document.querySelector('h1').textContent = 'Old'; again()")
    page.get_by_role("heading", name="need you").wait_for()
    page.get_by_role("link", name="Figures, charts").focus()
    page.evaluate("document.querySelector('h1').textContent = 'Old'")
    page.evaluate("again()")
    assert page.inner_text("h1") == "Old"


def test_a_look_that_fails_is_told(page: Any, url: str) -> None:
    """An error, or no answer, leaves the page as it was and says since when; the next look that
    works takes that back.
    """
    page.goto(url)
    stale = page.locator(".stale[role=status]")
    assert not stale.is_visible()
    for answer in (lambda route: route.abort(), lambda route: route.fulfill(status=503)):
        page.route("**/?again=1", answer)
        page.evaluate("again()")
        assert re.fullmatch(r"Could not be refreshed since \d\d:\d\d\.", stale.inner_text())
        page.unroute("**/?again=1")
        page.evaluate("again()")
        assert not stale.is_visible()
    page.faults.clear()  # the browser's own words on both


def test_the_number_on_the_worklist_is_fresh(page: Any, url: str) -> None:
    """What is closed elsewhere leaves the head too."""
    page.goto(url)
    before = page.locator("nav .count").inner_text()
    page.evaluate("document.querySelector('nav .count').textContent = '999'")
    page.get_by_role("link", name="Worklist").first.focus()
    page.evaluate("again()")
    assert page.locator("nav .count").inner_text() == before
    assert page.evaluate("document.activeElement.innerText").startswith("Worklist")


def test_an_erasure_is_asked_for_and_followed(page: Any, url: str) -> None:
    """From the address to the page that says how it stands; there is no address in its link."""
    page.goto(f"{url}/suppressions")
    page.fill("#address", "07700 900126")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Show what Relay has").click()
    page.get_by_label("Also stop sending to this address").check()
    page.fill("#note", "Asked in writing.")
    judge(page)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="To be erased").wait_for()
    told(page, "Texts to this address are stopped.")
    assert "/erasure/era_" in page.url
    judge(page)


def test_an_erasure_that_is_done_says_so_by_itself(page: Any, url: str) -> None:
    """The page, its title and what a screen reader hears change with it; then it looks no more."""
    page.goto(f"{url}/erasure/{ERASING}")
    page.get_by_role("heading", name="Being erased").wait_for()
    page.evaluate(f"shown.dataset.again = '/erasure/{ERASED}?again=1'; look()")
    page.get_by_role("heading", name="Not everything is erased").wait_for()
    assert page.title().startswith("Not everything is erased")
    assert "Not everything" in page.locator(".sr[role=status]").inner_text()
    assert page.evaluate("shown.dataset.again") == ""
    judge(page)


def test_without_scripts_all_of_it_works(url: str, started: Any) -> None:
    """Logged in, and a test sent, with JavaScript off."""
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
    page.goto(f"{begun(page, url, 'Without')}/{SOURCE}")
    page.fill("#text", "Your kit.\n\n{{ order.trackin }}")
    page.get_by_role("button", name="Only check").click()
    page.locator("#line-3.error").wait_for(state="attached", timeout=30_000)
    page.get_by_text("Names to put in").click()
    assert page.get_by_text("tracking_number", exact=True).is_visible()
    assert page.locator("details button").count() == 0
    page.get_by_role("link", name="the words").click()
    page.locator("main textarea").last.fill("<b>Your kit.</b>")
    page.get_by_role("button", name="Save in the draft").click()
    page.get_by_text("<b> is a tag").wait_for(timeout=30_000)
    context.close()


def tab_to(page: Any, words: str) -> None:
    """Press Tab until what begins with these words has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText").startswith(words):
            return
    raise AssertionError(f"{words}: Tab does not lead there")


def told(page: Any, words: str) -> None:
    """The page says so, where a reader of the screen hears it: a judgement may take a while."""
    page.locator("[role=status]").filter(has_text=words).wait_for(timeout=30_000)


def test_a_person_is_found_and_read_by_the_keyboard_alone(url: str, started: Any) -> None:
    """From the login to the words of a message and out again: Tab, Enter and letters."""
    page = opened(url, started, "light")
    tab_to(page, "Journeys")
    page.keyboard.press("Enter")
    page.locator("#q:focus").wait_for()
    page.keyboard.type("hart")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="9 kits found").wait_for()
    judge(page)
    tab_to(page, "A••• H•••")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Show names, addresses and messages").wait_for()
    assert "Hart" not in page.inner_text("main")
    tab_to(page, "Show names, addresses and messages")
    page.keyboard.press("Enter")
    told(page, "Shown; the audit trail")
    assert "Hart" in page.inner_text("h1")
    tab_to(page, "Log out")
    page.keyboard.press("Enter")
    page.locator("#password:focus").wait_for()
    page.goto(f"{url}/system")
    assert page.url.startswith(f"{url}/login")
    page.context.close()


def test_one_message_is_revealed(page: Any, url: str) -> None:
    """A kit is found by its id; its one message is shown, and the others stay masked."""
    page.goto(f"{url}/journeys")
    page.fill("#q", KIT)
    page.get_by_role("button", name="Search").click()
    show = page.get_by_role("button", name="Show address and message")
    before = show.count()
    assert before > 1
    show.first.click()
    told(page, "Shown; the audit trail")
    assert (show.count(), page.locator(".words").count()) == (before - 1, 1)
    judge(page)


class Hands:
    """Somebody at the desk, whose acts are counted: a press, or words and a press."""

    def __init__(self, page: Any, url: str):
        self.page, self.acts = page, 0
        page.goto(url)

    def press(self, name: str, role: str = "link") -> Any:
        """Press a link or a button."""
        self.acts += 1
        self.page.get_by_role(role, name=name).locator("visible=true").first.click()
        return self.page

    def write(self, label: str, words: str, then: str = "") -> Any:
        """Write into a field, and press Enter or a button."""
        self.page.get_by_label(label).locator("visible=true").last.fill(words)
        if then:
            return self.press(then, "button")
        self.acts += 1
        self.page.keyboard.press("Enter")
        return self.page


def find(hands: Hands) -> None:
    """Search for a person from whatever page one is on, and open their kit."""
    hands.write("Look for a kit or a person", "okafor")
    hands.press("T••• O•••")


def was_told(hands: Hands) -> str:
    """Did this person get it, and if not, why?"""
    find(hands)
    return str(hands.page.get_by_role("list", name="The kit\u2019s steps").inner_text())


def not_told(hands: Hands) -> str:
    """Who has not been told?"""
    return str(hands.page.locator(".needs").inner_text())


def wrong_number(hands: Hands) -> str:
    """Send it again to the number that the lab has now."""
    find(hands)
    hands.acts += 1
    hands.page.locator(".again summary").first.click()
    hands.write("Why", "Wrong number.", "Send it again")
    return str(hands.page.locator("[role=status]").first.inner_text())


def stop_texts(hands: Hands) -> str:
    """Stop texts to a number."""
    hands.press("Suppressions")
    hands.write("Look up a number", "07700 900055", "Look up")
    return str(hands.page.get_by_role("button", name="Stop").first.inner_text())


def rules_words(hands: Hands) -> str:
    """What will this rule say?"""
    hands.press("Rules")
    hands.press("See its messages (results-ready)")
    return str(hands.page.locator(".phone").first.inner_text())


def try_edit(hands: Hands) -> str:
    """Try another window for a rule: what would be wrong, and in words what it would say."""
    hands.press("Editions")
    hands.write("What the change is about", "Hours", "Begin a draft")
    hands.press("results-ready")
    hands.write("Send window", "09:00-18:00", "Only check")
    return str(hands.page.locator("main").inner_text())


def release(hands: Hands) -> str:
    """Read a held message above its buttons."""
    hands.acts += 1
    hands.page.locator(".needs li").filter(has_text="waiting for your release").first.get_by_role(
        "link", name="Open"
    ).click()
    assert hands.page.locator(".phone").first.is_visible()
    return str(hands.page.get_by_role("button", name="Release now").inner_text())


def batch(hands: Hands) -> str:
    """See to a night's failed messages."""
    return str(hands.page.get_by_role("button", name="Send it again").first.inner_text())


TASKS = {
    was_told: "Delivered",
    not_told: "Somebody could not be reached",
    wrong_number: "Relay is sending it again",
    stop_texts: "Stop",
    rules_words: "results",
    try_edit: "between 09:00 and 18:00",
    release: "Release now",
    batch: "Send it again",
}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_a_receptionists_task_takes_four_acts(task: Any, page: Any, url: str) -> None:
    """From Today, each of the eight: four presses at most, and the answer is on the page."""
    hands = Hands(page, url)
    assert TASKS[task] in task(hands)
    assert hands.acts <= 4
    judge(page)


# A case by its title, the button on it, and what is told then.
PRESSED = (
    ("Somebody could not be reached", "Try again", "Relay is sending it again."),
    ("A message could not be written", "Close", "Closed."),
    ("An event from the lab is held", "Process it again", "Relay is processing it again."),
    ("A message may or may not have gone out", "Send it again", "Relay is sending it again."),
    ("A message may or may not have gone out", "It did arrive", "It now counts as sent."),
    ("A message is waiting for your release", "Release now", "it goes out"),
    ("A message is waiting for your release", "Do not send", "Stopped"),
    ("A kit's next step is overdue", "Close", "Closed."),
    ("A message may go to the wrong person", "Close", "Closed."),
    ("A text is waiting to be read", "Close", "Closed."),
    ("A post from the lab was refused", "Close", "Closed."),
    ("Some of a person's data could not be erased", "Close", "Closed."),
)


def test_a_text_is_read_and_answered_by_the_keyboard(page: Any, url: str) -> None:
    """Masked, shown once it is asked for, and the answer is checked before it can go."""
    page.goto(f"{url}/worklist?kind=reply")
    page.get_by_role("link", name="Answer it").press("Enter")
    assert "Where is my kit?" not in page.inner_text("main")
    tab_to(page, "Show number and words")
    page.keyboard.press("Enter")
    page.get_by_text("Where is my kit?").wait_for()
    judge_both(page)
    page.locator("#words").focus()
    page.keyboard.type("It left us today.")
    tab_to(page, "Check it first")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Send the answer").wait_for()
    judge_both(page)


def test_an_account_is_taken_up_by_the_keyboard(page: Any, url: str, started: Any) -> None:
    """From the manager's invitation to the recovery codes, and in again with a code."""
    page.goto(f"{url}/people")
    page.locator("#login").focus()
    page.keyboard.type("jane@example.org")
    page.keyboard.press("Enter")
    link = page.locator("main").get_by_text("/join/").first
    link.wait_for()
    judge_both(page)
    theirs = started.new_context(viewport=NARROW, reduced_motion="reduce").new_page()
    theirs.faults = []
    path = re.search(r"/join/[\w-]+", link.inner_text())
    assert path
    theirs.goto(url + path[0])
    judge_both(theirs)
    found = re.search(r"\b[A-Z2-7]{32}\b", theirs.inner_text("main"))
    assert found
    app = pyotp.TOTP(found[0])
    theirs.locator("#password").focus()
    theirs.keyboard.type("correct horse battery")
    theirs.keyboard.press("Tab")
    theirs.keyboard.type(app.now())
    theirs.keyboard.press("Enter")
    theirs.get_by_text(re.compile(r"[0-9a-f]{10}")).first.wait_for()
    judge_both(theirs)
    code = re.search(r"\b[0-9a-f]{10}\b", theirs.inner_text("main"))
    assert code
    tab_to(theirs, "I have kept them")
    theirs.keyboard.press("Enter")
    theirs.wait_for_url(f"{url}/")
    tab_to(theirs, "Log out")
    theirs.keyboard.press("Enter")
    theirs.locator("#login").focus()
    theirs.keyboard.type("jane@example.org")
    theirs.keyboard.press("Tab")
    theirs.keyboard.type("correct horse battery")
    theirs.keyboard.press("Enter")
    theirs.locator("#code").wait_for()
    judge_both(theirs)
    theirs.locator("#code").focus()
    theirs.keyboard.type(code[0])
    theirs.keyboard.press("Enter")
    theirs.wait_for_url(f"{url}/")
    judge_both(theirs)
    theirs.context.close()
    page.goto(f"{url}/people")
    judge_both(page)


def test_who_looked_is_asked_by_the_keyboard(page: Any, url: str) -> None:
    """A patient's question is answered on the audit trail's page."""
    page.goto(f"{url}/audit")
    page.locator("#about").focus()
    page.keyboard.type(KIT)
    page.keyboard.press("Enter")
    told(page, "lines about it.")
    judge_both(page)


def test_one_kind_of_case_is_seen_by_itself(page: Any, url: str) -> None:
    """The links over the cases lead to one kind, and back to all."""
    page.goto(f"{url}/worklist")
    kinds = page.get_by_label("Kinds of cases")
    kinds.get_by_role("link", name="A message is waiting for your release").click()
    assert page.locator("article.case").count() == 2
    judge(page)
    kinds.get_by_role("link", name="All", exact=True).click()
    assert page.locator("article.case").count() == len(PRESSED)


def test_a_release_is_read_before_it_is_decided(page: Any, url: str, started: Any) -> None:
    """The text, and the email in its frame, stand above the two buttons: masked, and whole once
    somebody asks; narrow and wide, in light and dark.
    """
    dark = opened(url, started, "dark")
    for one, rules in ((page, ()), (dark, ("color-contrast",))):
        one.goto(f"{url}/worklist?kind=release")
        one.get_by_role("link", name="This case by itself").first.click()
        greeting = one.frame_locator("iframe").get_by_text("Hello")
        assert greeting.inner_text() == "Hello F•••,"
        judge(one, *rules)
        one.get_by_role("button", name="Show addresses and messages").click()
        told(one, "Shown; the audit trail")
        assert greeting.inner_text() == "Hello Finn,"
        judge(one, *rules)
        one.locator(".kits a").first.click()
        assert greeting.inner_text() == "Hello F•••,"
        judge(one, *rules)
    dark.context.close()


def test_each_case_is_seen_to(page: Any, url: str) -> None:
    """Each button does what it says, and the next case opens; Enter in the note presses none."""
    page.goto(f"{url}/worklist")
    cases = page.locator("article.case")
    assert cases.count() == len(PRESSED)
    unreached = cases.filter(has_text="Somebody could not be reached")
    unreached.locator(".kits a").first.click()
    page.get_by_role("heading", name="Shipped").wait_for()
    page.go_back()
    for left, (title, button, said) in enumerate(PRESSED, 1):
        case = cases.filter(has_text=title).first
        if button == "Close":
            if case.locator(".acts summary").count():
                case.locator(".acts summary").click()
            case.get_by_role("button", name=button, exact=True).click()
            assert case.get_by_label("What you did").evaluate("it => it.matches(':invalid')")
            case.get_by_label("What you did").fill("Called on Monday.")
            page.keyboard.press("Enter")
        case.get_by_role("button", name=button, exact=True).click()
        told(page, said)
        assert cases.count() == len(PRESSED) - left
        if left == 1:
            expect(page.locator(".case:target .why p").first).to_be_in_viewport()
    page.get_by_text("No cases are open.").wait_for()
    page.get_by_role("button", name="Open again").first.click()
    told(page, "back on the worklist")
    assert cases.count() == 1
    judge(page)
    cases.get_by_label("What you did").fill("Called on Monday.")
    cases.get_by_role("button", name="Close", exact=True).click()
    told(page, "Closed.")


def test_what_the_lab_posted_is_seen_to(
    page: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused post is shown, tried again, put aside and taken back, alone and with the others;
    what can be read by now is taken.
    """
    page.goto(f"{url}/worklist")
    page.get_by_role("link", name="Refused posts").click()
    posts = page.locator("article:has([value=again])")
    post = posts.filter(has_text="data.order_id")
    post.get_by_role("button", name="Show the post").click()
    told(page, "Shown; the audit trail")
    assert "Jane Smith" in post.locator("pre").inner_text()
    judge(page)
    post.get_by_role("button", name="Try it again").click()
    told(page, "Relay still refuses it")
    post.get_by_role("button", name="Put it aside").click()
    assert post.get_by_label("Why it can be put aside").evaluate("it => it.matches(':invalid')")
    post.get_by_label("Why it can be put aside").fill("The lab tests.")
    post.get_by_role("button", name="Put it aside").click()
    told(page, "Put aside.")
    page.get_by_role("button", name="Put it back on the worklist").click()
    told(page, "back on the worklist")
    assert posts.count() == 2
    page.get_by_text("Put all 2 aside at once").click()
    page.get_by_label("Why they can be put aside").fill("The lab tests.")
    judge(page)
    page.get_by_role("button", name="Put all aside").click()
    told(page, "2 put aside.")
    page.get_by_text("No refused posts need a person now.").wait_for()
    page.get_by_role("button", name="Put it back on the worklist").first.click()
    told(page, "back on the worklist")
    taken = parse(b'{"event": "order.shipped", "data": {"order_id": "o-1"}}')
    monkeypatch.setattr(events, "parse", lambda body: taken)
    page.get_by_role("button", name="Try it again").click()
    told(page, "Relay has now accepted it and will process it.")


def test_an_unknown_event_is_acknowledged_or_processed(
    page: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is acknowledged with a note; what Relay knows by now is processed."""
    page.goto(f"{url}/worklist")
    page.get_by_role("link", name="Unknown events").click()
    event = page.locator("article").filter(has_text="kit.recalled")
    event.get_by_label("What you know about it").fill("Not for patients.")
    event.get_by_role("button", name="Acknowledge").click()
    told(page, "Acknowledged.")
    assert (page.locator("article").count(), event.count()) == (1, 0)
    judge(page)
    monkeypatch.setitem(EVENTS, "order.returned", EVENTS["order.shipped"])
    page.reload()
    page.get_by_role("button", name="Process them").click()
    told(page, "1 is being processed.")
    page.get_by_text("No unknown events need a person now.").wait_for()


def test_an_address_is_stopped_and_lifted(page: Any, url: str) -> None:
    """Looked up, stopped with a reason, lifted with another; both are told below."""
    page.goto(f"{url}/suppressions")
    page.fill("#address", "07700 900055")
    page.get_by_role("button", name="Look up").click()
    for button, said in (("Stop texts", "are stopped."), ("Send texts again", "go out again.")):
        page.get_by_label("Reason").fill("Asked at the desk.")
        page.get_by_role("button", name=button).click()
        told(page, said)
    assert page.get_by_text(": admin. Asked at the desk.").count() == 2
    judge(page)


def test_a_rule_is_looked_at(page: Any, url: str) -> None:
    """Its messages in their frames, and one sent to oneself."""
    page.goto(f"{url}/rules")
    page.get_by_role("link", name="See its messages (kit-shipped)").click()
    frame = page.frame_locator("iframe").first
    frame.locator("body").filter(has_text="on its way").wait_for()
    page.fill("#address", "07700 900001")
    page.get_by_role("button", name="Send a test").click()
    told(page, "not sent: delivery is dry-run")
    judge(page)


@pytest.fixture(scope="module")
def colleague(url: str, started: Any, page: Any) -> Any:
    """A page in which another manager is logged in."""
    page.goto(f"{url}/people")
    page.fill("#login", "ann@example.org")
    page.select_option("#role", "manager")
    page.get_by_role("button", name="Add").click()
    [path] = re.findall(r"/join/[\w-]+", page.inner_text("main"))
    theirs = started.new_context(reduced_motion="reduce").new_page()
    theirs.set_default_timeout(10_000)
    theirs.faults = []
    theirs.goto(url + path)
    [secret] = re.findall(r"\b[A-Z2-7]{32}\b", theirs.inner_text("main"))
    theirs.fill("#password", "correct horse battery")
    theirs.keyboard.press("Tab")
    theirs.keyboard.type(pyotp.TOTP(secret).now())
    theirs.keyboard.press("Enter")
    theirs.get_by_role("link", name="I have kept them").click()
    return theirs


@pytest.mark.by_processes
def test_the_whole_way_of_an_edit(page: Any, colleague: Any, url: str) -> None:
    """By the keyboard: a rule is edited in its form, wrong, mended, tried on the last days,
    approved by somebody else, live, and taken back.
    """
    for one in (page, colleague):
        one.set_viewport_size(PHONE)
    draft = begun(page, url, "Hours")
    tab_to(page, "kit-shipped")
    page.keyboard.press("Enter")
    filled(page, "#key-send_window", "25:00-26:00", "Only check")
    page.get_by_role("alert").get_by_role("link", name="Send window").wait_for()
    assert page.get_by_label("Send window").get_attribute("aria-invalid") == "true"
    judge_sizes(page)
    filled(page, "#key-send_window", "09:00-18:00", "Save in the draft")
    told(page, "Saved in the draft")
    assert (
        "between 09:00 and 18:00" in page.locator("section[aria-labelledby=changes]").inner_text()
    )
    page.get_by_text("Relay tried it on").wait_for(timeout=30_000)
    judge_sizes(page)
    filled(page, "#note", "As Dr Lee asked.", "Ask for approval")
    told(page, "Asked:")
    colleague.goto(draft)
    colleague.get_by_text("asks for approval: As Dr Lee asked.").wait_for()
    tab_to(colleague, "Approve and publish")
    judge_sizes(colleague)
    colleague.keyboard.press("Enter")
    told(colleague, "Published as edition")
    live = int(re.findall(r"edition (\d+)", colleague.inner_text("[role=status]"))[0])
    page.goto(f"{url}/rule?name=kit-shipped")
    assert "between 09:00 and 18:00" in page.inner_text(".lead")
    page.goto(f"{url}/edition/{live - 1}")
    filled(page, "#note", "Evenings are fine.", "Use edition")
    told(page, f"Edition {live - 1} is in use again")
    page.goto(f"{url}/rule?name=kit-shipped")
    assert "between 09:00 and 18:00" not in page.inner_text(".lead")
    page.set_viewport_size(NARROW)


def test_words_are_edited_by_the_keyboard(page: Any, url: str) -> None:
    """What is typed is judged as it is typed: marked at its line, where a press leads; mended, it
    is shown as it would be sent, with its segments, alphabet and price. A name is put in where the
    cursor is, and can be taken back.
    """
    page.set_viewport_size(SCREEN)
    page.goto(f"{begun(page, url, 'Words')}/{SOURCE}")
    typed(page, "Your kit\n{{ order.trackin }}")
    told(page, "1 mistake.")
    page.locator("#line-2.error").wait_for(state="attached")
    assert page.locator("#text").get_attribute("aria-invalid") == "true"
    assert page.locator(".numbered span").count() == 2
    judge_sizes(page)
    page.get_by_role("link", name="line 2").press("Enter")
    assert page.evaluate("text.value.slice(text.selectionStart, text.selectionEnd)") == (
        "{{ order.trackin }}"
    )
    page.keyboard.type("is on its way, call ")
    tab_to(page, "Names to put in")
    page.keyboard.press("Enter")
    judge_sizes(page)
    for _ in range(2):
        page.get_by_role("button", name="clinic.phone").press("Enter")
    page.keyboard.press("Control+z")
    page.keyboard.type("!")
    assert page.input_value("#text") == "Your kit\nis on its way, call {{ clinic.phone }}!"
    page.locator(".phone").filter(has_text="call 020 7946 0000!").wait_for(timeout=30_000)
    assert "GSM-7" in page.inner_text("#judged")
    assert "£0.04" in page.inner_text("#judged")
    told(page, "No mistakes. 1 segment.")
    page.keyboard.type(" Ł" + "x" * 70)
    told(page, "2 segments.")
    assert "UCS-2" in page.inner_text("#judged")
    for size in (PHONE, SCREEN):  # beside the text, where there is room
        page.set_viewport_size(size)
        is_beside = page.locator(".phone").bounding_box()["x"] > size["width"] / 2
        assert is_beside == (size == SCREEN)
    judge_sizes(page)
    page.set_viewport_size(NARROW)


def test_words_alone_are_edited_by_the_keyboard(page: Any, url: str) -> None:
    """Passage by passage, with what each depends on; judged as they are typed, and what is refused
    is said at its passage. A name goes into the passage that was typed in last.
    """
    page.set_viewport_size(PHONE)
    page.goto(f"{begun(page, url, 'Plain')}/file?name=templates/results_ready/sms.txt")
    assert page.get_by_role("link", name="the words").get_attribute("aria-current") == "true"
    passages = page.locator("main textarea")
    assert passages.count() == 3
    assert "Not if the clinic's portal is given." in page.inner_text("main")
    judge_sizes(page)
    passages.last.focus()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("Ring {{ clinic.fone }}.")
    told(page, "1 passage cannot stay like this")
    assert passages.last.get_attribute("aria-invalid") == "true"
    assert 'Did you mean "clinic.phone"?' in page.locator(".passage").last.inner_text()
    judge_sizes(page)
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("Ring us: ")
    told(page, "No mistakes. 1 segment.")
    assert page.locator(".passage .wrong").count() == 0
    tab_to(page, "Names to put in")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="clinic.phone").press("Enter")
    assert passages.last.input_value() == "Ring us: {{ clinic.phone }}"
    passages.first.focus()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("Good news.")
    page.locator(".phone").filter(has_text="Good news. Read them at").wait_for(timeout=30_000)
    judge_sizes(page)
    tab_to(page, "Save in the draft")
    page.keyboard.press("Enter")
    told(page, "Saved in the draft")
    page.get_by_role("link", name="results_ready/sms.txt changed").click()
    page.get_by_role("link", name="the source").press("Enter")
    assert page.input_value("#text").startswith("Good news. {% if clinic.portal %}Read them at")
    judge_sizes(page)
    page.go_back()
    page.goto(page.url.replace("sms.txt", "email.html"))
    passages.nth(2).fill("Here they are")
    frame = page.frame_locator("iframe.dark").first
    frame.get_by_role("heading", name="Here they are").wait_for(timeout=30_000)
    assert page.locator("iframe").count() == 4
    judge_sizes(page)
    page.set_viewport_size(NARROW)


def test_each_line_stands_beside_its_number(page: Any, url: str) -> None:
    """However it wraps: the text that is laid out for the numbers is as high as what is typed."""
    page.goto(f"{begun(page, url, 'Lines')}/file?name=config.toml")
    for width in (320, 768, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        heights = page.evaluate("[numbered, text].map((it) => it.scrollHeight)")
        assert heights[0] == pytest.approx(heights[1], abs=2), width  # of some 300 rows
    page.evaluate("document.activeElement.blur()")
    judge_both(page)
    typed(page, "# a\n" * 90 + "[rules.x]\n")
    page.locator("#line-91.error").wait_for(state="attached", timeout=30_000)
    assert page.locator(".numbered span").last.get_attribute("id") == "line-92"
    page.set_viewport_size(NARROW)


def test_a_text_that_cannot_be_judged_says_so(page: Any, url: str) -> None:
    """Where Relay is out of reach, or the session has ended, nothing that is typed is lost, and the
    next letter asks again.
    """
    page.goto(f"{begun(page, url, 'Away')}/{SOURCE}")
    page.route("**/file", lambda route: route.abort())
    typed(page, "Your kit.")
    told(page, "could not be checked just now")
    page.unroute("**/file")
    page.keyboard.type("..")
    told(page, "No mistakes.")
    page.faults.clear()  # the browser's own words


def test_a_rule_is_taken_out_by_the_keyboard(page: Any, url: str) -> None:
    """What it means stands above the button; then the draft says what goes, and what waits."""
    page.set_viewport_size(SCREEN)
    page.goto(f"{begun(page, url, 'Fewer')}/rule?name=kit-shipped")
    tab_to(page, "Take the rule out")
    page.keyboard.press("Enter")
    page.get_by_text("kept until somebody decides").wait_for()
    judge_sizes(page)
    tab_to(page, "Take it out of the draft")
    page.keyboard.press("Enter")
    told(page, "Saved in the draft")
    assert "kit-shipped: gone." in page.inner_text("section[aria-labelledby=changes]")
    page.get_by_role("heading", name="What waits already").wait_for(timeout=30_000)
    assert "kept until somebody decides" in page.inner_text("section[aria-labelledby=tried]")
    judge_sizes(page)
    page.set_viewport_size(NARROW)


def begun(page: Any, url: str, name: str) -> str:
    """The address of a new draft."""
    page.goto(f"{url}/editions")
    page.locator("#name").focus()
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=name).wait_for()
    return str(page.url)


def typed(page: Any, words: str) -> None:
    """Write a text in place of the one in the editor."""
    page.locator("#text").focus()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(words)


def filled(page: Any, field: str, words: str, button: str) -> None:
    """Write into a field and press a button, by the keyboard."""
    page.locator(field).focus()
    page.keyboard.press("Control+a")
    page.keyboard.type(words)
    tab_to(page, button)
    page.keyboard.press("Enter")


def test_what_was_done_is_in_the_audit_trail(
    page: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From System to the trail, and back in time to the first login."""
    monkeypatch.setattr(system, "AT_ONCE", 5)
    page.goto(f"{url}/system")
    page.get_by_role("link", name="The audit trail").click()
    read = page.inner_text("main")
    while page.get_by_role("link", name="Older").count():
        page.get_by_role("link", name="Older").click()
        page.get_by_role("link", name="The latest").wait_for()
        read += page.inner_text("main")
    assert "Logged in" in read
    assert "Looked at masked details" in read
    judge(page)
