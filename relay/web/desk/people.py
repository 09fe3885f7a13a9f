"""The desk's people: who may use it, who is using it now, and how people set their account up."""

from __future__ import annotations

import secrets
from typing import Any

import pyotp
from flask import abort, flash, redirect, render_template, request, session, url_for
from flask_wtf import FlaskForm
from markupsafe import Markup
from werkzeug.security import generate_password_hash

from relay.ledger import people as ledger_people
from relay.ledger.audit import NotDone, write_audit
from relay.rules.addresses import EMAIL
from relay.staff.roles import MANAGE, ROLES, WORDS
from relay.web.desk.auth import begin_session
from relay.web.desk.layout import actor, blueprint, my_act, page, requires
from relay.web.services import services

LEAST = 12  # characters that a password needs
_CODES = 8


@blueprint.get("/people")
@requires(MANAGE)
def people() -> str:
    """The accounts and the open sessions."""
    return _people()


@blueprint.post("/people")
@requires(MANAGE)
def change_people() -> Any:
    """Add an account, change, disable or reset one, or end a session."""
    act, login = request.form.get("act", ""), request.form.get("login", "").strip()[:100]
    role, token = request.form.get("role", ""), secrets.token_urlsafe(24)
    if act in ("add", "role") and role not in ROLES:
        abort(404)
    if act == "add" and (reason := EMAIL.judge(login).reason):
        return _people(wrong=reason, written=login), 400
    mine = my_act(f"user {act}", login.lower())
    try:
        with services().db.write() as connection:
            if act == "add":
                ledger_people.add(connection, login, role, token, mine)
            elif act == "role":
                ledger_people.set_role(connection, login, role, mine)
            elif act == "disable":
                ledger_people.disable(connection, login, mine)
            elif act == "reset":
                ledger_people.reset(connection, login, token, mine)
            elif act == "end":
                ledger_people.end(connection, request.form.get("session", ""))
                write_audit(connection, actor(), "end session", request.form.get("session", ""))
            else:
                abort(404)
    except NotDone as error:
        return _people(wrong=str(error), written=login), 400
    if act in ("add", "reset"):
        return _people(link=url_for("desk.join", token=token, _external=True), invited=login)
    flash("Done.")
    return redirect(url_for("desk.people"))


def _people(**more: Any) -> str:
    with services().db.read() as connection:
        users = [
            {**one, "is_taken_up": bool(one["password_hash"] or one["oidc_subject"])}
            for one in ledger_people.everyone(connection)
        ]
        sessions = ledger_people.open_sessions(connection)
    return page("people.html", users=users, sessions=sessions, roles=WORDS, **more)


@blueprint.route("/join/<token>", methods=["GET", "POST"])
@requires(None)
def join(token: str) -> Any:
    """Choose a password and set up the second factor; the page shows recovery codes once."""
    with services().db.read() as connection:
        account = ledger_people.invited(connection, token)
    if account is None:
        return render_template("join.html", account=None), 404
    form, alert = FlaskForm(), ""
    secret = session.setdefault("totp", pyotp.random_base32())
    if form.validate_on_submit():
        password = request.form.get("password", "")
        code = "".join(request.form.get("code", "").split())
        if len(password) < LEAST:
            alert = f"That password is too short. Choose one of at least {LEAST} characters."
        elif not pyotp.TOTP(secret).verify(code, valid_window=1):
            alert = "Wrong code. Type the six digits that the app shows now."
        else:
            codes = [secrets.token_hex(5) for _ in range(_CODES)]
            hashed = generate_password_hash(password)
            with services().db.write() as connection:
                ledger_people.take_up(connection, account["id"], hashed, secret, codes)
                write_audit(connection, account["login"], "join", account["login"])
            begin_session({**account, "password_hash": hashed})
            return render_template("join.html", account=account, codes=codes)
    import segno  # imported here: needed once for each account, and no start waits for it

    uri = pyotp.TOTP(secret).provisioning_uri(name=account["login"], issuer_name="Relay")
    picture = Markup(segno.make(uri).svg_inline(scale=4, border=2))  # noqa: S704
    return render_template(
        "join.html",
        account=account,
        words=WORDS[account["role"]],
        form=form,
        alert=alert,
        secret=secret,
        picture=picture,
        least=LEAST,
    ), 400 if alert else 200
