"""HTTPS only, outside development: a secret, a password or a phone number that crosses a network
in the clear can be read on the way.
"""

from __future__ import annotations

import ipaddress

from flask import Flask, Response, redirect, request
from werkzeug.wrappers import Response as Redirect

from relay.logs import get_logger
from relay.web.responses import PROGRAMS, answer

log = get_logger("relay.web")

PLATFORMS_OWN = ("/healthz", "/readyz")  # asked without TLS; no personal data
# Private networks, which the internet does not route to, and this machine.
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
_OWN = ("127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10")
_NEAR = [ipaddress.ip_network(written) for written in (*_PRIVATE, *_OWN)]


def refuse(app: Flask) -> None:
    """Refuse plain HTTP, or redirect a browser to HTTPS, before anything else is done."""

    @app.before_request
    def _only_https() -> Response | Redirect | None:
        if request.is_secure or request.path in PLATFORMS_OWN:
            return None
        via_proxy = request.headers.get("X-Forwarded-Proto")
        peer = request.environ["werkzeug.proxy_fix.orig"]["REMOTE_ADDR"]
        if not via_proxy and is_near(peer) and is_near(request.remote_addr):
            return None
        is_program = request.path[1:].partition("/")[0] in PROGRAMS
        if via_proxy and request.method in ("GET", "HEAD") and not is_program:
            return redirect(f"https:{request.url.partition(':')[2]}", 308)
        log.warning("plain http refused", method=request.method, route=request.endpoint)
        return answer(403, status="error", error="Relay takes nothing over plain HTTP. Use https.")


def is_near(address: str | None) -> bool:
    """Whether an address is of this machine or a private network; none means a Unix socket."""
    try:
        found = ipaddress.ip_address(address or "127.0.0.1")
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in network for network in _NEAR)
