"""The desk's erasure of one person: what there is of them, then the act, then what came of it.

The address is in no link and no log: only in what is posted.
"""

from __future__ import annotations

from typing import Any

from flask import request
from flask_login import current_user, login_required

from relay import addresses, forgetting
from relay.channels import Exits
from relay.forgetting import Erased
from relay.ledger import suppressing, upkeep
from relay.web.desk.frame import blueprint, page
from relay.web.desk.suppressions import KINDS, target
from relay.web.here import here

_NO_REASON = "Say why: it is kept with who did it and when."


@blueprint.post("/erasure")
@login_required  # type: ignore[untyped-decorator]
def erasure() -> Any:
    """Ask first, and erase where that is what was pressed.

    Pressed twice, the second finds nothing more to erase.
    """
    written = request.form.get("address", "").strip()[:320]
    channel = addresses.channel_of(written)
    judged = addresses.JUDGES[channel](written)
    if judged.reason:
        wrong = judged.reason if written else "Write a UK mobile number or an email address."
        return page("suppression.html", written=written, wrong=wrong), 400
    note = request.form.get("note", "").strip()[:500]
    if request.form.get("act") == "erase" and note:
        return _erased(channel, judged.address, note, stop=bool(request.form.get("stop")))
    wrong = _NO_REASON if request.form.get("act") == "erase" else ""
    return _asked(channel, judged.address, wrong), 400 if wrong else 200


def _asked(channel: str, address: str, wrong: str) -> str:
    _, counts = forgetting.look(here().db, address)
    return page(
        "erasure.html",
        written=address,
        kind=KINDS[channel],
        counts=forgetting.phrases(counts),
        wrong=wrong,
        stays=forgetting.STAYS,
        beyond=forgetting.OUT_OF_REACH,
    )


def _erased(channel: str, address: str, note: str, *, stop: bool) -> str:
    app, who = here(), str(current_user.get_id())
    delivery = app.config.delivery
    if stop:
        suppressing.suppress(app.db, channel, address, suppressing.STAFF, actor=who)
    person, _ = forgetting.look(app.db, address)
    exits = Exits(app.settings, delivery.senders, delivery.allow)
    done: Erased = forgetting.forget(app.db, exits, person)
    said = f"{forgetting.told(done.counts)}. {'' if person.is_in(note) else note}".strip()
    upkeep.write_audit(app.db, who, "forget", target(app.settings, channel, address), said)
    return page(
        "erased.html",
        done=done,
        counts=forgetting.phrases(done.counts),
        stopped=stop,
        kind=KINDS[channel],
    )
