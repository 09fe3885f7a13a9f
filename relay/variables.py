"""What may stand in a variable of the environment, and what is wrong with what stands there."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from urllib.parse import SplitResult, urlsplit

from relay import logs
from relay.errors import Problem

# As werkzeug makes them: method$salt$digest.
_HASH = re.compile(
    r"scrypt(:\d+:\d+:\d+)?\$[^$]+\$[0-9a-f]{128}"
    r"|pbkdf2(:sha256(:\d+)?)?\$[^$]+\$[0-9a-f]{64}"
    r"|pbkdf2:sha512(:\d+)?\$[^$]+\$[0-9a-f]{128}"
)


def wrong(name: str, message: str, remedy: str) -> Problem:
    """A problem of a variable."""
    return Problem(message, where="environment", key=name, remedy=remedy)


def http_url(name: str, value: str, problems: list[Problem]) -> str:
    """An address that tokens go to: over TLS, or to this machine itself (a stand-in)."""
    parts = _split(value)
    if value and not parts:
        problems.append(wrong(name, "is not a URL of the form https://host.", ""))
    elif parts and parts.scheme == "http" and not _loopback(parts.hostname or ""):
        problems.append(wrong(name, "is plain http.", "Write https://: it carries a secret."))
    return value.rstrip("/")


def public_url(value: str, development: bool, problems: list[Problem]) -> str:
    """Where providers reach us. A path may be a proxy's, which takes it away again."""
    parts, name, remedy = _split(value), "PUBLIC_URL", "Write it as in https://your-host."
    shown = f'"{value}"' if "@" not in value else "it"
    if value and (not parts or "?" in value or "#" in value or not value.isascii()):
        message = (
            f"{shown} is not an address of this web process: Twilio refuses texts that name it."
        )
        problems.append(wrong(name, message, remedy))
    elif parts and parts.scheme == "http" and not development:
        message = f"{shown} is plain http: receipts name people's numbers."
        problems.append(wrong(name, message, remedy))
    return value.rstrip("/")


def sentry_dsn(value: str) -> Iterator[Problem]:
    """Where faults are reported."""
    if value and not logs.is_dsn(value):
        remedy = "Copy it from Sentry, Client Keys: it is of the form https://key@host/project."
        yield wrong("SENTRY_DSN", "is not an address of Sentry's.", remedy)


def webhook_keys(values: Sequence[str]) -> Iterator[Problem]:
    """By what SendGrid's receipts are checked."""
    if any(value and not _is_key(value) for value in values):
        message = "is not the key of a signed event webhook: every receipt would be refused."
        remedy = "Copy it from SendGrid, Mail Settings, Event Webhook: one line that begins MFkw."
        yield wrong("SENDGRID_WEBHOOK_PUBLIC_KEY", message, remedy)


def password_hash(value: str) -> Iterator[Problem]:
    """By what the desk knows its password."""
    if value and not _HASH.fullmatch(value):
        message = "is not a whole hash: nobody could log in."
        remedy = "It begins with scrypt: and has two $ in it. Set it in single quotes."
        yield wrong("ADMIN_PASSWORD_HASH", message, remedy)


def _split(value: str) -> SplitResult | None:
    """The parts of an http address without a name and a password in it; None for anything else."""
    try:
        parts = urlsplit(value)
        is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if is_one and "@" not in parts.netloc and not re.search(r"\s", value) else None


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_key(written: str) -> bool:
    """Whether SendGrid's client can check signatures by it."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    pem = f"-----BEGIN PUBLIC KEY-----\n{written}\n-----END PUBLIC KEY-----"
    try:
        return isinstance(load_pem_public_key(pem.encode()), EllipticCurvePublicKey)
    except Exception:  # a key of another kind raises what it likes
        return False
