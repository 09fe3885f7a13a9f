"""The desk's drafts: messages that wait, as their readers will see them, beside their buttons.

What is somebody's own is masked until it is asked for. Nothing of it is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from flask import Response, abort, current_app, request
from itsdangerous import BadSignature, URLSafeTimedSerializer

from relay.jobs import drafts
from relay.jobs.drafts import Draft
from relay.ledger.database import Connection
from relay.ledger.worklist import releases
from relay.ledger.worklist.releases import Held
from relay.messages import sms_segments
from relay.messages.templates import Message
from relay.privacy import masks
from relay.rules.channels import CHANNELS, Channel
from relay.staff.roles import LOOK
from relay.web.desk.layout import SCHEMES, actor, blueprint, framed, requires, templates
from relay.web.services import services

_SHOWN_SECONDS = 600  # that a frame, once its words were asked for, may load them


@dataclass(frozen=True)
class ShownDraft:
    """A draft as a page shows it; its size is that of the real words, since a mask's dots are not
    in the SMS alphabet.

    `permit` lets its frame load the words unmasked, for a while.
    """

    held: Held
    draft: Draft
    permit: str = ""

    @property
    def message(self) -> Message | None:
        """The words that may be seen."""
        return self.draft.whole if self.permit else self.draft.masked

    @property
    def address(self) -> str:
        """The address as it may be seen."""
        return self.held.address if self.permit else masks.address(self.held.address)

    @property
    def size(self) -> sms_segments.Size | None:
        """How many segments it takes, where it is billed so."""
        return self.draft.whole.size if self.draft.whole else None

    @property
    def row(self) -> Channel:
        """The channel's row."""
        return CHANNELS[self.held.channel]


def waiting_drafts(
    connection: Connection, ids: Sequence[str], revealed: Collection[str] = ()
) -> Iterator[ShownDraft]:
    """What waits of these messages, and of all that is owed together with them. Those in `revealed`
    are shown whole.
    """
    for held in releases.held_with(connection, ids) if ids else ():
        draft = drafts.write(connection, services().config, templates(), held)
        yield ShownDraft(held, draft, permit(held.id) if held.id in revealed else "")


@blueprint.get("/draft")
@requires(LOOK)
def draft_email() -> Response:
    """An email that waits, on its own, for a frame: masked without a permit."""
    id_ = request.args.get("message", "")
    revealed = (id_,) if is_permitted(request.args.get("permit", ""), id_) else ()
    with services().db.read() as connection:
        found = [*waiting_drafts(connection, [id_], revealed)]
    shown = next((one.message for one in found if one.held.id == id_), None)
    if shown is None or not shown.html:
        abort(404)
    return framed(SCHEMES[0], shown.html)


def permit(id_: str) -> str:
    """What a frame shows for whoever has asked, on record, to see a message."""
    return str(_signer().dumps([actor(), id_]))


def is_permitted(written: str, id_: str) -> bool:
    """Whether whoever is logged in has just asked to see a message."""
    try:
        return bool(_signer().loads(written, max_age=_SHOWN_SECONDS) == [actor(), id_])
    except BadSignature:
        return False


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(str(current_app.secret_key), salt="draft")
