"""What every page of the desk has: its frame, its guards, and who is logged in."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, render_template
from flask_login import UserMixin
from flask_wtf import FlaskForm

from relay.ledger import cases
from relay.web.here import here

blueprint = Blueprint("desk", __name__)


class Admin(UserMixin):  # type: ignore[misc]
    """The one account there is."""

    id = "admin"


@blueprint.after_request
def _guard(response: Response) -> Response:
    """Nothing from elsewhere, and no frame around us."""
    policy = "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
    response.headers["Content-Security-Policy"] = policy
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def page(template: str, **context: Any) -> str:
    """A page with the desk's head: whose it is, the way to the others, how many cases are open."""
    app = here()
    waiting = cases.count_open(app.db)
    return render_template(
        template, clinic=app.config.clinic, waiting=waiting, form=FlaskForm(), **context
    )
