"""The desk's rules: config.toml as it is understood."""

from __future__ import annotations

from flask_login import login_required

from relay.web.desk.frame import blueprint, page


@blueprint.get("/rules")
@login_required  # type: ignore[untyped-decorator]
def rules() -> str:
    """The rules in plain English."""
    return page("rules.html")
