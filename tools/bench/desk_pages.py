"""All that a browser can ask of the desk: each page and each act, by its endpoint.

An endpoint of the desk's that is not here stops the measurement: no new page is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from relay.config.loader import Config

Given = Mapping[str, str]
PASSWORD = "bench"
_NOTE = {"note": "Called on Monday."}
_PHONE = 12345678  # that of nobody's kit, and those after it


@dataclass(frozen=True)
class Kit:
    """The one that is looked for, of so many."""

    number: int
    subject: str
    event: str
    text: str  # the id of the message about that event

    @property
    def phone(self) -> str:
        """Where its texts went."""
        return f"+4474{self.number:08}"

    @property
    def email(self) -> str:
        """Where its emails went."""
        return f"jane{self.number}@example.org"


def gets(kit: Kit, config: Config) -> dict[str, Sequence[Given]]:
    """Endpoint → what its address has, once for each way in which the page is asked for."""
    rules = [
        {"name": rule.name, "data": data} for rule in config.rules for data in ("sample", "real")
    ]
    emailed = {rule.name for rule in config.rules if "email" in rule.ways}
    return {
        **{
            f"desk.{page}": [{}]
            for page in (
                "today",
                "editions_page",
                "going_live",
                "journeys",
                "worklist",
                "quarantine",
                "unknown_events",
                "rules",
                "stop",
                "suppressions",
                "system",
                "login",
                "second_factor",  # leads to the login, as the next two do
                "organisation",
                "organisation_back",
                "people",
                "trail_file",
            )
        },
        **{
            f"desk.activity_{how}": [{}, {"what": "events"}, {"status": "permanent-failure"}]
            for how in ("page", "file")
        },
        "desk.edition": [],  # there is none in the bench's ledger, and no draft
        "desk.draft": [],
        "desk.draft_file": [],
        "desk.email_in_draft": [],
        "desk.draft_rule": [],
        "desk.letters_page": [{}, {"rule": "kit-shipped", "day": f"{datetime.now(UTC):%F}"}],
        "desk.join": [],  # nobody is invited
        "desk.accent": [],  # the bench's clinic has no colour of its own
        "desk.journey": [{"kit": kit.subject}],
        "desk.one_case": [{"case_id": "cas_21"}],
        "desk.rule": rules,
        "desk.email": [given for given in rules if given["name"] in emailed],
        "desk.draft_email": [],  # no email waits in the bench's ledger; desk.email makes the same
        "desk.erased": [{"id_": "era_waiting"}, {"id_": "era_done"}],
        "desk.audit": [{}, {"before": "aud_000000050000"}],
    }


def looks(kit: Kit) -> dict[str, Mapping[str, Given]]:
    """Endpoint → name → form, of posts that only look."""
    searches = {
        "an order": kit.subject,
        "a TRF code": f"TRF-{kit.number}",
        "an event": kit.event,
        "a common name": "Name7",
        "a whole name": "Jane Name399",
        "the beginning of any name": "nam",
        "a phone": kit.phone,
        "an email": kit.email,
        "staff's email": "desk@example.org",
        "nothing there": "nobody-goes-by-this",
    }
    return {
        "desk.search": {f"search: {name}": {"q": q} for name, q in searches.items()},
        "desk.reveal": {"reveal a journey": {"kit": kit.subject}},
        "desk.reveal_case": {},  # likewise, and nobody has sent a text
        "desk.answer": {},
        "desk.who_looked": {"who looked at an address": {"about": kit.phone}},
        "desk.suppression": {"an address's opt-out": {"address": kit.phone, "act": "find"}},
        "desk.erasure": {"an address before its erasure": {"address": kit.phone, "act": "ask"}},
        "desk.see_to_post": {"reveal a refused post": {"post_id": "qua_1", "act": "reveal"}},
    }


def acts(kit: Kit, now: datetime) -> dict[str, Mapping[str, Iterator[Given]]]:
    """Endpoint → name → forms, each for one press: what was done once is not done again."""
    # As many again at each press: the fill has one post a second.
    until = ((now - timedelta(seconds=4000 - 1000 * n)).isoformat() for n in count())
    return {
        "desk.see_to": {
            "close a case": _each("case_id", "cas_", 1, act="close", **_NOTE),
            "send again": _each("case_id", "cas_", 11, act="resend", **_NOTE),
            "take that back": _each("case_id", "cas_", 11, act="open"),
        },
        # Once it is done, and then it is refused.
        "desk.send_message_again": {"send a message again": _always(message=kit.text, **_NOTE)},
        "desk.ask_the_lab": {"ask the lab now": _always(event="evt_held")},
        "desk.stop_address": {"stop a message's address": _always(message=kit.text, **_NOTE)},
        "desk.see_to_post": {
            "try a refused post again": _each("post_id", "qua_", 1, act="again"),
            "put a refused post aside": _each("post_id", "qua_", 101, act="aside", **_NOTE),
            "take a refused post back": _each("post_id", "qua_", 101, act="back"),
        },
        "desk.see_to_event": {
            "acknowledge an unknown event": _each(
                "name", "unknown.", 1, act="acknowledge", **_NOTE
            ),
            "process unknown events": _always(name="order.shipped", act="process"),
        },
        "desk.suppression": {
            "stop an address": _each("address", "+4474", _PHONE, act="add", **_NOTE),
            "lift a stop": _each("address", "+4474", _PHONE, act="lift", **_NOTE),
        },
        "desk.erasure": {
            "ask for an erasure": _each("address", "+4474", _PHONE, act="erase", **_NOTE),
        },
        "desk.press_stop": {
            "stop a rule": _always(what="rule kit-shipped", act="stop", **_NOTE),
            "resume it": _always(what="rule kit-shipped", act="resume"),
        },
        "desk.see_to_letters": {
            "write a letter": _always(
                rule="kit-shipped", day=f"{now:%F}", act="write", subject="Sorry", words="Sorry."
            ),
        },
        "desk.start_draft": {"begin a draft": _always(name="Kinder words")},
        # Each needs an edition or a draft of its own.
        **{f"desk.{act}": {} for act in ("take_back", "see_to_draft", "save_file", "save_rule")},
        "desk.send_test": {"send a test": _always(name="kit-shipped", address="+447487654321")},
        # The last ones: nothing is left to be put aside, and nobody is logged in.
        "desk.see_to_posts": {
            "put all refused posts aside": ({"until": one, **_NOTE} for one in until)
        },
        "desk.change_people": {
            "add an account": (
                {"act": "add", "login": f"a{n}@example.org", "role": "desk"} for n in count()
            ),
        },
        "desk.second_factor": {"a code": _always(code="123456")},
        "desk.join": {},
        "desk.login": {"log in": _always(password=PASSWORD)},
        "desk.logout": {"log out": _always()},
    }


def check_whole(url_map: Any, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Each endpoint of the desk's is in the tables of its method, and no other is."""
    for method, several in tables.items():
        there = {
            rule.endpoint
            for rule in url_map.iter_rules()
            if rule.endpoint.startswith("desk.") and method in (rule.methods or ())
        }
        asked = {endpoint for table in several for endpoint in table}
        if there != asked:
            raise SystemExit(
                f"tools/bench/desk_pages.py, {method}: {', '.join(sorted(there ^ asked))}"
            )


def _each(key: str, prefix: str, first: int, **form: str) -> Iterator[Given]:
    return ({key: f"{prefix}{number}", **form} for number in count(first))


def _always(**form: str) -> Iterator[Given]:
    return (form for _ in count())
