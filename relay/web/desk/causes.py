"""Cases as the desk shows them: those with the same cause are together, for one act.

The messages that wait in them are shown as their readers will see them, beside their buttons.
Personal data is masked until somebody asks for it; the page keeps none of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flask import Response, abort, current_app, request
from itsdangerous import BadSignature, URLSafeTimedSerializer

from relay.jobs import drafts
from relay.jobs.drafts import Draft
from relay.lab import facts
from relay.ledger.database import Connection
from relay.ledger.views import queries
from relay.ledger.worklist import releases, replies
from relay.ledger.worklist.releases import Held
from relay.ledger.worklist.replies import Reply
from relay.messages import sms_segments
from relay.messages.alerts import CaseNames
from relay.messages.templates import Message
from relay.privacy import masks
from relay.rules.alerts import counted, is_about_a_kit
from relay.rules.channels import CHANNELS, Channel
from relay.rules.replies import REPLY
from relay.rules.statuses import RELEASE
from relay.staff import answers, case_acts, words
from relay.staff.roles import LOOK
from relay.web.desk.layout import (
    SCHEMES,
    actor,
    alert_words,
    blueprint,
    framed,
    requires,
    templates,
)
from relay.web.services import services

Case = Mapping[str, Any]
SINGLE = (RELEASE, REPLY)  # a person must read the words of each first


@dataclass(frozen=True)
class Cause:
    """Open cases of one kind that have the same reason and the same acts."""

    cases: Sequence[Case]

    @property
    def first(self) -> Case:
        """The first case, which stands for all."""
        return self.cases[0]

    @property
    def many(self) -> str:
        """How much it is about, in words: 12 messages wait. Empty if it is about one."""
        return counted(self.first["kind"], sum(case["count"] for case in self.cases))

    @property
    def act(self) -> tuple[str, str] | None:
        """The first act other than closing, and the words on its button; None if there is none."""
        acts = self.first["acts"].items()
        return next((act for act in acts if act[0] != case_acts.CLOSE), None)


def by_cause(shown: Iterable[Case]) -> list[Cause]:
    """Group cases by cause, in the order of the first of each."""
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
    """Yield cases with their acts and words; messages and texts whose ids are in `revealed` are
    unmasked.
    """
    texts = replies.of_cases(connection, [case["id"] for case in found])
    by_event = queries.facts_of(connection, {case["event_id"] for case in found})
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
            "who": masks.name(facts.full_name(by_event[case["event_id"]])) if is_about_kit else "",
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
    """A text that a case is about, with its words only if somebody asked for them."""
    is_shown, address = case["id"] in revealed, text.address if text else ""
    return {
        "words": text.words if text and is_shown else None,
        "address": address if is_shown else masks.address(address),
        "permit": permit(case["id"]) if is_shown else "",
        "why_not": answers.why_not(text),
        "is_gone": not address,
    }


_SHOWN_SECONDS = 600  # for which a frame may load words that somebody asked to see


@dataclass(frozen=True)
class ShownDraft:
    """A draft as a page shows it. Its size is that of the real words: a mask's dots are not in the
    SMS alphabet.

    `permit` lets its frame load the words unmasked, for a while.
    """

    held: Held
    draft: Draft
    permit: str = ""

    @property
    def message(self) -> Message | None:
        """The message, masked without a permit."""
        return self.draft.whole if self.permit else self.draft.masked

    @property
    def address(self) -> str:
        """The address, masked without a permit."""
        return self.held.address if self.permit else masks.address(self.held.address)

    @property
    def size(self) -> sms_segments.Size | None:
        """Its size in segments, if it is billed by them."""
        return self.draft.whole.size if self.draft.whole else None

    @property
    def row(self) -> Channel:
        """The channel's row."""
        return CHANNELS[self.held.channel]


def waiting_drafts(
    connection: Connection, ids: Sequence[str], revealed: Collection[str] = ()
) -> Iterator[ShownDraft]:
    """Those of these messages that wait, and all that are owed together with them. Those in
    `revealed` are unmasked.
    """
    for held in releases.held_with(connection, ids) if ids else ():
        draft = drafts.write(connection, services().config, templates(), held)
        yield ShownDraft(held, draft, permit(held.id) if held.id in revealed else "")


@blueprint.get("/draft")
@requires(LOOK)
def draft_email() -> Response:
    """An email that waits, by itself, for a frame: masked without a permit."""
    id_ = request.args.get("message", "")
    revealed = (id_,) if is_permitted(request.args.get("permit", ""), id_) else ()
    with services().db.read() as connection:
        found = [*waiting_drafts(connection, [id_], revealed)]
    shown = next((one.message for one in found if one.held.id == id_), None)
    if shown is None or not shown.html:
        abort(404)
    return framed(SCHEMES[0], shown.html)


def permit(id_: str) -> str:
    """A token that lets a frame show a message to the person whose request for it is on record."""
    return str(_signer().dumps([actor(), id_]))


def is_permitted(written: str, id_: str) -> bool:
    """Whether the person who is logged in has just asked to see a message."""
    try:
        return bool(_signer().loads(written, max_age=_SHOWN_SECONDS) == [actor(), id_])
    except BadSignature:
        return False


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(str(current_app.secret_key), salt="draft")
