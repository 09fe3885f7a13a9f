"""The default templates: their words, their price, what they never say, and hostile names."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from relay.config import check
from relay.config.loader import Config, load
from relay.config.settings import Settings
from relay.lab import samples
from relay.lab.facts import Facts, clean_text, resource
from relay.lab.plain_text import why_no_name
from relay.messages import sms_segments
from relay.messages.templates import Message, Templates
from relay.rules.model import Rule
from tests.conftest import ROOT

SETTINGS = Settings(config=ROOT / "config.toml", templates=ROOT / "templates")
CONFIG = load(SETTINGS)
LONDON_ROAD = replace(CONFIG, clinic=replace(CONFIG.clinic, name="London Road Clinic"))
WORDS = Templates(SETTINGS.templates)
MESSAGES = [(r, c) for r in CONFIG.rules for c in ("sms", "email")]
# What the lab knows of a person, each to be found again if a message says it.
PRIVATE = {
    "first_name": "Zephyrine",
    "last_name": "Quillfeather",
    "date_of_birth": "1990-05-15",
    "email": "zephyrine@example.com",
    "phone_number": "+447700900555",
    "mobile_phone_number": "+447700900555",
}
SKU = "LML-THY-ADV"


def facts(**person: Any) -> Facts:
    """Full facts of the lab's example, with other details of every person."""
    known = samples.full().to_json()
    return Facts(
        **{
            name: resource({**value, **person} if name != "order" else value, name)
            for name, value in known.items()
        }
    )


def message(rule: Rule, channel: str, of: Facts, config: Config = LONDON_ROAD) -> Message:
    """A rule's message about its example event and these facts."""
    seen = check.example_names(config, rule, of)
    return WORDS.render(rule.template, channel, "", seen)


class Page(HTMLParser):
    """An email's HTML, as a mail program reads it."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep tags and attributes."""
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        self.text += data


each_message = pytest.mark.parametrize(
    ("rule", "channel"), MESSAGES, ids=[f"{r.name}-{c}" for r, c in MESSAGES]
)
each_rule = pytest.mark.parametrize("rule", CONFIG.rules, ids=lambda rule: rule.name)


def test_check_finds_nothing() -> None:
    """The defaults that Relay comes with have no error and no warning."""
    assert check.templates(CONFIG, WORDS) == []
    assert list(check.senders(CONFIG)) == []


def test_every_template_is_used() -> None:
    """A folder of words that no rule names would only mislead."""
    folders = {path.name for path in SETTINGS.templates.iterdir() if path.is_dir()}
    assert folders == {*(rule.template for rule in CONFIG.rules), "alerts"}


@each_rule
def test_every_template_has_words_for_each_channel(rule: Rule) -> None:
    """An admin may switch a rule to another channel without writing a template first."""
    is_digest = bool(rule.digest)
    faults = WORDS.faults(rule.template, ("sms", "email"), rule.event, is_digest=is_digest)
    assert list(faults) == []


@pytest.mark.parametrize("name", ["Jane", "Christopher", "Zoë", samples.LONG_NAME])
@each_rule
def test_every_sms_is_one_cheap_segment(rule: Rule, name: str) -> None:
    """With a clinic's and a person's usual names, a text costs one GSM-7 segment."""
    size = sms_segments.size(message(rule, "sms", samples.full(name)).text)
    assert (size.alphabet, size.segments, size.culprits) == ("GSM-7", 1, "")


@each_rule
def test_sms_says_who_writes_and_how_to_answer(rule: Rule) -> None:
    """A sender in letters cannot be replied to, so a text names the clinic and another way."""
    text = message(rule, "sms", samples.full()).text
    assert text.startswith("London Road Clinic")
    if rule.to in ("customer", "patient"):
        assert CONFIG.clinic.phone in text


@each_rule
def test_what_a_locked_screen_shows_is_not_private(rule: Rule) -> None:
    """No text and no subject has a test, a product, a birthday or a full name in it."""
    of = facts(**PRIVATE)
    shown = message(rule, "sms", of).text + message(rule, "email", of).subject
    assert not re.search(r"thyroid|hormone|blood|hiv|sti\b|analyte", shown, re.IGNORECASE)
    for secret in (SKU, *PRIVATE.values()):
        assert secret not in shown


@each_message
def test_no_message_has_more_of_a_person_than_a_first_name(rule: Rule, channel: str) -> None:
    """A message may greet; it has no surname, birthday, product or address, and staff's no name."""
    told = "".join(message(rule, channel, facts(**PRIVATE)).content.values())
    allowed = {"Zephyrine"} if rule.to in ("customer", "patient") else set()
    for secret in {SKU, *PRIVATE.values()} - allowed:
        assert secret not in told


@each_rule
def test_email_loads_nothing_from_afar(rule: Rule) -> None:
    """Opening an email tells nobody: no images, scripts, fonts or styles from elsewhere."""
    html = message(rule, "email", samples.full()).html
    page = Page(html)
    assert not {"img", "script", "link", "iframe", "object", "video", "form"} & set(page.tags)
    assert not {"src", "srcset", "background", "poster"} & {name for name, _ in page.attributes}
    assert not re.search(r"@import|url\s*\(|@font-face", html)
    links = [value for name, value in page.attributes if value.startswith(("http:", "https:"))]
    assert set(links) <= {value for name, value in page.attributes if name == "href"}
    assert all(
        value.startswith(("https://", "tel:")) for n, value in page.attributes if n == "href"
    )


HOSTILE = [
    "<b>",
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "{{ 7*7 }}{% raw %}",
    "Jane\r\nBcc: all@example.com",
    "x" * 300,
    "😀👩‍👩‍👧",
    "\u202eenaJ\u2066",
    "O'Brien & Söhne",
    "%s %(name)s {0}",
]


@pytest.mark.parametrize("name", HOSTILE)
@each_message
def test_a_hostile_name_stays_a_name(rule: Rule, channel: str, name: str) -> None:
    """Whatever a person is called, no markup, header, template or reading order comes of it."""
    fields = dict.fromkeys(
        ("first_name", "last_name", "tracking_number", "trf_code", "lab_id"), name
    )
    fields["carrier"] = "royal_mail"
    known = {n: resource({**value, **fields}, n) for n, value in samples.full().to_json().items()}
    made = message(rule, channel, Facts(**known))
    plain = message(rule, channel, samples.full("Jane"))
    assert len(made.subject.splitlines()) == (channel == "email")
    assert len(made.subject) < 120
    for part in made.content.values():
        assert not re.search("[\u202a-\u202e\u2066-\u2069\0\r]", part)
        assert "\nBcc:" not in part
    assert Page(made.html).tags == Page(plain.html).tags
    if channel == "email" and rule.to in ("customer", "patient"):
        kept = str(clean_text(name))
        greeting = "Hello there," if why_no_name(kept) else f"Hello {kept[:37]}"
        assert greeting in made.text
        assert greeting in Page(made.html).text
    assert sms_segments.size(made.text).segments <= 2 or channel == "email"


def test_a_name_is_greeted_as_it_is() -> None:
    """A name with signs in it is shown as it is written, and escaped where it must be."""
    rule = CONFIG.by_name.get("results-ready")
    assert rule is not None
    made = message(rule, "email", samples.full("O'Brien & Söhne"))
    assert "Hello O'Brien & Söhne," in made.text
    assert "O'Brien & Söhne" in Page(made.html).text
    assert "& S" not in made.html


CLINICAL = {"retest", "results-ready"}


@each_rule
def test_emails_say_what_else_to_do(rule: Rule) -> None:
    """An email to a person says what to do when nobody answers, by the clinic's hours if it has
    written them down; one about results or a retest, whom to call who cannot wait.
    """
    extra = {"hours": "Mon to Fri, 9 to 5", "results_take": "3 to 5 days"}
    config = replace(CONFIG, clinic=replace(CONFIG.clinic, extra=extra))
    is_staffs = rule.to not in ("customer", "patient")
    for of, hours in ((CONFIG, "try again later."), (config, "We are there Mon to Fri, 9 to 5.")):
        made = message(rule, "email", samples.full(), of)
        for text in (" ".join(made.text.split()), " ".join(Page(made.html).text.split())):
            assert (hours in text) is not is_staffs
            assert ("call 111. In an emergency, call 999." in text) is (rule.name in CLINICAL)
            assert ("neither good news nor bad" in text) is (rule.name == "retest")
            takes = "Results usually take 3 to 5 days." in text
            assert takes is (rule.name == "sample-received" and of is config)


@each_rule
def test_an_inbox_shows_nothing_of_health(rule: Rule) -> None:
    """A subject to a person, and what an inbox shows after it, is about a kit and says no more."""
    made = message(rule, "email", facts(**PRIVATE))
    shown = re.search(r'<div class="preheader"[^>]*>([^&<]+)', made.html)
    assert shown
    seen = f"{made.subject} {shown[1]}"
    if rule.to in ("customer", "patient"):
        assert "kit" in seen
        assert not re.search(r"result|test|sample|blood|update|urgent|click", seen, re.IGNORECASE)
    assert not any(secret in seen for secret in PRIVATE.values())
