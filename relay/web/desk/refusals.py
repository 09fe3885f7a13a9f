"""What the desk says when it cannot do what it is asked: a page in words, where a program gets
JSON. It needs neither the ledger nor a session, which may be what is wrong.
"""

from __future__ import annotations

from flask import current_app, request

UNAVAILABLE = 503
_WORDS = {
    400: (
        "Not done",
        "That form did not come from an open page of the desk, so nothing was done. You may have "
        "been logged out since. Load the page again, then press.",
    ),
    404: (
        "Not found",
        "There is no such page, or what it was about is not there any more.",
    ),
    405: (
        "No page of its own",
        "This address is only what a button leads to. Nothing was done.",
    ),
    413: ("Too long", "That is too long. Nothing was done."),
    500: (
        "Relay is at fault",
        "Something in Relay broke. It has been logged. If you had pressed a button, look whether "
        "it was done before you press it again.",
    ),
    UNAVAILABLE: ("Not now", "The ledger is out of reach. Try again in a minute."),
}
# To what was pressed: the ledger may have gone away just after it had taken it.
_PRESSED = {
    UNAVAILABLE: (
        "Not now",
        "The ledger is out of reach. What you pressed may or may not have been done: look again in "
        "a minute, before you press it once more.",
    ),
}


def page(code: int) -> str:
    """What a status means, and the way to Today."""
    words = {**_WORDS, **_PRESSED} if request.method == "POST" else _WORDS
    title, said = words.get(code, ("Not possible", "That is not possible."))
    # Not `render_template`: it would ask who is logged in.
    template = current_app.jinja_env.get_template("refused.html")
    return template.render(title=title, said=said)
