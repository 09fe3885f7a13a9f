"""The clinic's own look on the desk: its colour and its logo, if it has set them."""

from __future__ import annotations

from typing import Any

from flask import Response, abort

from relay.config.colours import BLACK, WHITE, mixed, readable
from relay.http_client import origin
from relay.web.desk.layout import blueprint, requires
from relay.web.responses import policy
from relay.web.services import services

# The backgrounds of letters in desk.css: the paper in light, a card in the dark.
_PAPER, _DARK = "#f5f6f4", "#192124"
_STYLE = """:root {{ --accent: {accent}; --tint: {tint}; }}
@media (prefers-color-scheme: dark) {{ :root {{ --accent: {in_dark}; --tint: {dark_tint}; }} }}
"""


@blueprint.context_processor
def brand() -> dict[str, Any]:
    """The names that each page's head uses."""
    clinic = services().config.clinic
    return {"accent": clinic.accent, "logo": clinic.logo}


@blueprint.after_request
def show_logo(response: Response) -> Response:
    """Let the desk's pages load the clinic's logo from its site, but only pictures."""
    if logo := services().config.clinic.logo:
        response.headers.setdefault("Content-Security-Policy", policy(origin(logo)))
    return response


@blueprint.get("/accent/<colour>.css")
@requires(None)
def accent(colour: str) -> Response:
    """The clinic's colour in place of ours. Its address changes with it, so browsers ask once."""
    mine = services().config.clinic.accent
    if not mine or colour != mine[1:]:
        abort(404)
    response = Response(style(mine), content_type="text/css; charset=utf-8")
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    return response


def style(colour: str) -> str:
    """A style sheet that makes a colour readable on the desk's backgrounds, light and dark."""
    tint, dark_tint = mixed(colour, WHITE, 0.88), mixed(colour, _DARK, 0.8)
    return _STYLE.format(
        accent=readable(colour, BLACK, tint, _PAPER),
        tint=tint,
        in_dark=readable(colour, WHITE, dark_tint, _DARK),
        dark_tint=dark_tint,
    )
