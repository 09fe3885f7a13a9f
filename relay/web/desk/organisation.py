"""Logging in with an organisation's own accounts, by OpenID Connect: Entra, Google and others.

Relay decides who may log in, by the accounts in its ledger: the organisation only identifies them.
https://docs.authlib.org/en/latest/client/flask.html
"""

from __future__ import annotations

from typing import Any

from flask import Flask, current_app, flash, redirect, request, session, url_for

from relay.config.settings import Settings
from relay.ledger import people
from relay.logs import get_logger
from relay.web.desk.auth import let_in
from relay.web.desk.layout import blueprint, requires
from relay.web.services import services

log = get_logger("relay.desk")
_NAME = "organisation"


def set_up(app: Flask, settings: Settings) -> None:
    """Let people log in with the organisation's accounts, if the settings name it."""
    if not settings.oidc_issuer:
        return
    # Imported here and below: it adds a quarter of a second to each start, and few clinics need it.
    from authlib.integrations.flask_client import OAuth

    OAuth(app).register(
        _NAME,
        client_id=settings.oidc_client_id,
        client_secret=settings.oidc_client_secret,
        server_metadata_url=f"{settings.oidc_issuer}/.well-known/openid-configuration",
        client_kwargs={"scope": "openid email", "code_challenge_method": "S256", "timeout": 5},
    )


def _client() -> Any:
    found = current_app.extensions.get("authlib.integrations.flask_client")
    return found and found.create_client(_NAME)


@blueprint.get("/login/organisation")
@requires(None)
def organisation() -> Any:
    """Go to the organisation's own login."""
    if not (client := _client()):
        return redirect(url_for("desk.login"))
    from authlib.integrations.base_client import OAuthError
    from requests import RequestException

    session["next"] = request.args.get("next", "")
    try:
        return client.authorize_redirect(_here())
    except (OAuthError, RequestException) as error:
        return _refused("cannot be reached. Try again, or log in with a password.", error)


@blueprint.get("/login/organisation/back")
@requires(None)
def organisation_back() -> Any:
    """Let in the person whom the organisation identifies, if they have an account here."""
    if not (client := _client()):
        return redirect(url_for("desk.login"))
    from authlib.integrations.base_client import OAuthError
    from requests import RequestException

    try:
        claims = client.authorize_access_token().get("userinfo") or {}
    except (OAuthError, RequestException, ValueError) as error:
        return _refused("did not let you in. Try again.", error)
    # Entra uses preferred_username for an account without a mailbox; its issuer is one tenant's.
    email = str(claims.get("email") or claims.get("preferred_username") or "")
    if claims.get("email_verified") is False or not email:
        return _refused("does not vouch for your email address. Ask its administrators.")
    with services().db.write() as connection:
        account = people.find(connection, email)
        is_theirs = (
            account
            and not account["disabled_at"]
            and people.bind(connection, account["id"], str(claims["sub"]))
        )
    if not (account and is_theirs):
        return _refused("knows you, but you have no account on this desk. Ask a manager for one.")
    return let_in(account, session.pop("next", ""))


def _here() -> str:
    return url_for("desk.organisation_back", _external=True)


def _refused(why: str, error: Exception | None = None) -> Any:
    if error:  # its text may have a token in it
        log.warning("organisation did not let in", error=type(error).__name__)
    flash(f"Your organisation {why}")
    return redirect(url_for("desk.login"))
