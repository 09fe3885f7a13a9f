"""Cases as the desk shows them: those that one thing has led to stand together, for one act."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from relay.ledger.database import Connection
from relay.ledger.views import queries
from relay.ledger.worklist import replies
from relay.ledger.worklist.replies import Reply
from relay.messages.alerts import CaseNames
from relay.privacy import masks, names
from relay.rules.alerts import counted, is_about_a_kit
from relay.rules.replies import REPLY
from relay.rules.statuses import RELEASE
from relay.staff import answers, case_acts, words
from relay.web.desk.drafts import ShownDraft, permit, waiting_drafts
from relay.web.desk.layout import alert_words
from relay.web.services import services

Case = Mapping[str, Any]
SINGLE = (RELEASE, REPLY)  # each has words of its own to be read first


@dataclass(frozen=True)
class Cause:
    """Open cases of one kind that have the same reason and the same acts."""

    cases: Sequence[Case]

    @property
    def first(self) -> Case:
        """The one that comes first, which speaks for all."""
        return self.cases[0]

    @property
    def many(self) -> str:
        """How much it is about, in words: 12 messages wait. Empty where it is about one."""
        return counted(self.first["kind"], sum(case["count"] for case in self.cases))

    @property
    def act(self) -> tuple[str, str] | None:
        """The one useful act, and the words on its button, where it can be done unseen."""
        acts = self.first["acts"].items()
        return next((act for act in acts if act[0] != case_acts.CLOSE), None)


def by_cause(shown: Iterable[Case]) -> list[Cause]:
    """Cases with the same cause together, in the order of the first of each."""
    found: dict[Any, list[Case]] = {}
    for case in shown:
        alike = ("kind", "rule", "channel", "event", "reason", "note", "why_not", "is_urgent")
        is_single = case["kind"] in SINGLE or not case["is_about_a_kit"]
        key = case["id"] if is_single else (*(case[name] for name in alike), *case["acts"])
        found.setdefault(key, []).append(case)
    return [Cause(cases) for cases in found.values()]


def as_shown(
    connection: Connection, found: Sequence[Case], revealed: Collection[str] = ()
) -> Iterator[dict[str, Any]]:
    """Cases with what can be done about them and what is said of them; the messages and texts that
    are in `revealed` whole.
    """
    texts = replies.of_cases(connection, [case["id"] for case in found])
    told = queries.facts_of(connection, {case["event_id"] for case in found})
    now = datetime.now(UTC)
    for case, offer in case_acts.offers(connection, services().config, found):
        subject = CaseNames(
            case["id"],
            case["kind"],
            case["subject"],
            case["reason"],
            count=case["count"],
            is_digest=case["is_digest"],
        )
        is_about_kit = is_about_a_kit(case["kind"], case["subject"])
        yield {
            **case,
            "words": alert_words().words(subject),
            "many": counted(case["kind"], case["count"]),
            "acts": offer.acts,
            "why_not": offer.why_not,
            "is_about_a_kit": is_about_kit,
            "who": masks.name(names.full_name(told[case["event_id"]])) if is_about_kit else "",
            "missing": words.missing(case) if is_about_kit else "",
            "age": words.age(case["opened_at"], now),
            "drafts": [*drafts_of(connection, case, revealed)],
            "text": _text(texts.get(case["id"]), case, revealed) if case["kind"] == REPLY else None,
        }


def drafts_of(
    connection: Connection, case: Case, revealed: Collection[str] = ()
) -> Iterator[ShownDraft]:
    """The messages that a case asks a person to release."""
    if case["kind"] == RELEASE and case["closed_at"] is None and case["notification_id"]:
        yield from waiting_drafts(connection, [case["notification_id"]], revealed)


def _text(text: Reply | None, case: Case, revealed: Collection[str]) -> dict[str, Any]:
    """A text that a case is about, its words only where they were asked for."""
    is_shown, address = case["id"] in revealed, text.address if text else ""
    return {
        "words": text.words if text and is_shown else None,
        "address": address if is_shown else masks.address(address),
        "permit": permit(case["id"]) if is_shown else "",
        "why_not": answers.why_not(text),
        "is_gone": not address,
    }
