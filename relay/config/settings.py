"""The environment: secrets and addresses, read once. Reports every problem together."""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from relay import logs
from relay.errors import ConfigError, Problem, did_you_mean
from relay.fault_injection import CRASH_POINTS
from relay.rules.channels import CHANNELS, variables

# Password hashes as werkzeug makes them: method$salt$digest.
_HASH = re.compile(
    r"scrypt(:\d+:\d+:\d+)?\$[^$]+\$[0-9a-f]{128}"
    r"|pbkdf2(:sha256(:\d+)?)?\$[^$]+\$[0-9a-f]{64}"
    r"|pbkdf2:sha512(:\d+)?\$[^$]+\$[0-9a-f]{128}"
)


def wrong(name: str, message: str, remedy: str = "", *, warning: bool = False) -> Problem:
    """A problem with an environment variable."""
    return Problem(message, "environment", key=name, remedy=remedy, warning=warning)


def http_url(name: str, value: str, problems: list[Problem]) -> str:
    """An address that gets our tokens: over TLS, or on this machine itself (a stand-in)."""
    parts = split_http_url(value)
    if value and not parts:
        problems.append(wrong(name, "is not a URL.", "Write it as in https://host."))
    elif parts and parts.scheme == "http" and not is_loopback_host(parts.hostname or ""):
        said = "is plain http, and Relay sends a secret to it."
        problems.append(wrong(name, said, "Write https://."))
    return value.rstrip("/")


def public_url(value: str, development: bool, problems: list[Problem]) -> str:
    """The address at which providers reach us. It may have a path, which a proxy then removes."""
    parts, name, remedy = split_http_url(value), "PUBLIC_URL", "Write it as in https://your-host."
    shown = f'"{value}"' if "@" not in value else "it"
    if value and (not parts or "?" in value or "#" in value or not value.isascii()):
        message = f"{shown} is not a valid public address: Twilio refuses texts that name it."
        problems.append(wrong(name, message, remedy))
    elif parts and parts.scheme == "http" and not development:
        message = f"{shown} is plain http, and receipts carry people's numbers."
        problems.append(wrong(name, message, remedy))
    return value.rstrip("/")


def split_http_url(value: str) -> SplitResult | None:
    """The parts of an http address that has no user or password in it; None for anything else."""
    try:
        parts = urlsplit(value)
        is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if is_one and "@" not in parts.netloc and not re.search(r"\s", value) else None


def is_loopback_host(host: str) -> bool:
    """Whether a host is this machine: a loopback IP address or `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_key(written: str) -> bool:
    """Whether SendGrid's client can check signatures with this key."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    pem = f"-----BEGIN PUBLIC KEY-----\n{written}\n-----END PUBLIC KEY-----"
    try:
        return isinstance(load_pem_public_key(pem.encode()), EllipticCurvePublicKey)
    except Exception:  # another kind of key may raise anything
        return False


# The variables in which platforms give a process its own address, used without a PUBLIC_URL.
OWN_ADDRESS = {
    "RENDER_EXTERNAL_URL": "{}",
    "HEROKU_APP_DEFAULT_DOMAIN_NAME": "https://{}",
    "FLY_APP_NAME": "https://{}.fly.dev",
}
LAB_API = "https://api.londonmedicallaboratory.com"
_DATABASES = ("sqlite:///", "postgresql+psycopg://")
_REDIS = ("redis://", "rediss://", "unix://")
_HTTP = (("LAB_API_URL", LAB_API), ("TWILIO_API_URL", ""), ("SENDGRID_API_URL", ""))
_CONNECTIONS = tuple(map(str, range(2, 33)))  # one for prepared statements, the rest for others
MODES = ("dry-run", "allow-list", "live")
AS_SENT = "as-sent"  # not allowed in RELAY_DELIVERY: only `sweep --as-sent` uses it


def secret_field() -> str:
    """Return a dataclass field for a secret: empty by default and hidden from the repr."""
    return field(default="", repr=False)


@dataclass(frozen=True)
class Settings:
    """The settings in the environment. Secrets stay out of its repr."""

    database_url: str = field(default="sqlite:///instance/relay.db", repr=False)
    database_connections: int = 3
    redis_url: str = secret_field()
    redis_tls_verify: bool = True
    lab_api_url: str = LAB_API
    lab_api_token: str = secret_field()
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    twilio_account_sid: str = secret_field()
    twilio_auth_token: str = secret_field()
    twilio_messaging_service_sid: str = ""
    twilio_from: str = ""
    twilio_api_url: str = ""
    sendgrid_api_key: str = secret_field()
    sendgrid_webhook_public_key: str = ""
    sendgrid_api_url: str = ""
    public_url: str = ""
    is_platforms_url: bool = False  # PUBLIC_URL is not set: a domain of ours may lead here too
    trusted_proxies: int = 1
    development: bool = False
    delivery: str = "dry-run"
    config: Path = Path("config.toml")
    templates: Path = Path("templates")
    admin_password_hash: str = secret_field()
    admin_password: str = secret_field()
    secret_key: str = secret_field()
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: str = secret_field()
    metrics_token: str = secret_field()
    sentry_dsn: str = secret_field()
    log_level: str = "INFO"
    crash_at: str = ""
    haste: float = 1.0
    # Former values that we still accept while a secret is changed: see `rotated`.
    former_twilio_auth_token: tuple[str, ...] = field(default=(), repr=False)
    former_sendgrid_webhook_public_key: tuple[str, ...] = ()
    former_secret_key: tuple[str, ...] = field(default=(), repr=False)
    # Variables that a channel's row names and that have no field here.
    more: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def variable(self, name: str) -> str:
        """A variable that a channel's row names; empty if it is not set."""
        return str(getattr(self, name.lower(), "")) or dict(self.more).get(name, "")

    @property
    def accounts(self) -> Mapping[str, bool]:
        """Whether each channel has the credentials that its provider needs."""
        return {
            name: all(map(self.variable, row.provider.account)) for name, row in CHANNELS.items()
        }

    @property
    def receipts(self) -> Mapping[str, bool]:
        """Whether each channel's provider can send us receipts."""
        return {
            name: bool(row.provider.receipts and self.variable(row.provider.receipts))
            for name, row in CHANNELS.items()
        }

    @property
    def name(self) -> str:
        """The value of RELAY_ENV."""
        return "development" if self.development else "production"

    @property
    def is_ledger_local(self) -> bool:
        """Whether a clinic's ledger is a file on this machine's disk."""
        return not self.development and self.database_url.startswith("sqlite")

    @property
    def desk_ready(self) -> bool:
        """Whether the admin desk is on."""
        return bool(self.admin_password or self.admin_password_hash)


_FIELDS = frozenset(Settings.__dataclass_fields__)


def from_environment(environ: Mapping[str, str], *, to_serve: bool = True) -> Settings:
    """Return the settings. Raises ConfigError naming every variable that is wrong.

    Unless they are `to_serve`, anything that only web and worker need may be missing.
    """
    settings, problems = judge(environ, to_serve=to_serve)
    if problems:
        raise ConfigError(problems)
    return settings


def judge(environ: Mapping[str, str], *, to_serve: bool = True) -> tuple[Settings, list[Problem]]:
    """The settings as they are written, and every problem with them."""
    problems: list[Problem] = []
    names: set[str] = set()  # of all variables that Relay reads

    def read(name: str, default: str = "") -> str:
        names.add(name)
        return environ.get(name, "").strip() or default

    def choice(name: str, default: str, known: tuple[str, ...]) -> str:
        value = read(name, default)
        value = value.upper() if known[0].isupper() else value.lower()
        if value not in known:
            problems.append(wrong(name, f'unknown value "{value}".', did_you_mean(value, known)))
            return default
        return value

    platforms_url = next((at.format(read(n)) for n, at in OWN_ADDRESS.items() if read(n)), "")
    development = choice("RELAY_ENV", "production", ("development", "production")) == "development"
    urls = {name: http_url(name, read(name, default), problems) for name, default in _HTTP}
    if urls["LAB_API_URL"].endswith("/api"):
        said = "ends in /api, which Relay adds itself."
        problems.append(wrong("LAB_API_URL", said, "Write it without that."))
    settings = Settings(
        database_url=ledger_url(read("DATABASE_URL"), problems),
        database_connections=int(choice("DATABASE_CONNECTIONS", "3", _CONNECTIONS)),
        redis_url=read("REDIS_URL"),
        redis_tls_verify=choice("REDIS_TLS_VERIFY", "true", ("true", "false")) == "true",
        lab_api_url=urls["LAB_API_URL"],
        lab_api_token=read("LAB_API_TOKEN"),
        twilio_account_sid=read("TWILIO_ACCOUNT_SID"),
        twilio_messaging_service_sid=read("TWILIO_MESSAGING_SERVICE_SID"),
        twilio_from=read("TWILIO_FROM"),
        twilio_api_url=urls["TWILIO_API_URL"],
        sendgrid_api_key=read("SENDGRID_API_KEY"),
        sendgrid_api_url=urls["SENDGRID_API_URL"],
        public_url=public_url(read("PUBLIC_URL", platforms_url), development, problems),
        is_platforms_url=not read("PUBLIC_URL") and bool(platforms_url),
        trusted_proxies=int(choice("TRUSTED_PROXIES", "1", tuple("12345"))),
        development=development,
        delivery=choice("RELAY_DELIVERY", "dry-run", MODES),
        config=Path(read("RELAY_CONFIG", "config.toml")),
        templates=Path(read("RELAY_TEMPLATES", "templates")),
        admin_password_hash=read("ADMIN_PASSWORD_HASH"),
        admin_password=read("ADMIN_PASSWORD", "development" if development else ""),
        **rotated(read, development),
        **single_sign_on(read, problems),
        metrics_token=read("METRICS_TOKEN"),
        sentry_dsn=read("SENTRY_DSN"),
        log_level=choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR")),
        crash_at=read_crash_point(read, development, problems),
        haste=read_haste(read, development, problems),
        more=tuple((name, read(name)) for name in variables() if name.lower() not in _FIELDS),
    )
    problems += server_url("REDIS_URL", settings.redis_url)
    if to_serve:
        problems += missing_settings(settings, environ)
        problems += odd(settings)
        problems += no_number("PORT", read("PORT"), 65535)
        problems += no_number("WEB_CONCURRENCY", read("WEB_CONCURRENCY"), 100)
    known = {problem.key for problem in problems}
    problems += (problem for problem in miswritten(environ, names) if problem.key not in known)
    return settings, problems


def no_number(name: str, value: str, most: int) -> Iterator[Problem]:
    """Yield a problem with a number that only gunicorn reads: it would stop with a traceback."""
    if value and not (value.isdecimal() and 1 <= int(value) <= most):
        remedy = f"Write a whole number from 1 to {most} in digits."
        yield wrong(name, f'"{value}" is not one.', remedy)


def miswritten(environ: Mapping[str, str], names: set[str]) -> Iterator[Problem]:
    """Find values still in a shell's quotes, and names that are nearly those of our variables."""
    for name in sorted(names):
        value = environ.get(name, "").strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            yield wrong(name, "has quotes around it, which count as a part of it.", "Remove them.")
    for name in sorted(environ.keys() - names):
        # Very close matches only: a platform names some after the service, such as RELAY_HOST.
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.9)
        if name.startswith("RELAY_") and near:
            yield wrong(name, "is no variable of Relay's.", f"Did you mean {near[0]}?")


def rotated(read: Callable[[str], str], development: bool) -> dict[str, Any]:
    """Secrets that may have several values, by commas, while they change: we accept each."""

    def listed(name: str) -> tuple[str, ...]:
        return tuple(filter(None, map(str.strip, read(name).split(","))))

    made: dict[str, Any] = {"webhook_secrets": listed("WEBHOOK_SECRET")}
    for name in ("TWILIO_AUTH_TOKEN", "SENDGRID_WEBHOOK_PUBLIC_KEY", "SECRET_KEY"):
        first, *former = listed(name) or ("",)
        made |= {name.lower(): first, f"former_{name.lower()}": tuple(former)}
    return {**made, "secret_key": made["secret_key"] or ("development" if development else "")}


OIDC = ("OIDC_ISSUER", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET")


def single_sign_on(read: Callable[[str], str], problems: list[Problem]) -> dict[str, Any]:
    """The settings for signing in with the organisation's accounts: all three, or none."""
    found = {name: read(name) for name in OIDC}
    found["OIDC_ISSUER"] = http_url("OIDC_ISSUER", found["OIDC_ISSUER"], problems)
    if any(found.values()):
        remedy = "Set all three to let people sign in with your organisation's accounts, or none."
        problems += [wrong(name, "is not set.", remedy) for name in OIDC if not found[name]]
    return {name.lower(): value for name, value in found.items()}


def read_crash_point(read: Callable[[str], str], development: bool, problems: list[Problem]) -> str:
    """The crash point at which a test wants this process killed."""
    name = for_developers("RELAY_CRASH_AT", read, development, problems)
    if name and name not in CRASH_POINTS:
        remedy = did_you_mean(name, CRASH_POINTS)
        problems.append(wrong("RELAY_CRASH_AT", f'unknown value "{name}".', remedy))
        return ""
    return name


def read_haste(read: Callable[[str], str], development: bool, problems: list[Problem]) -> float:
    """How many times faster the ledger's time passes in a test."""
    written = for_developers("RELAY_HASTE", read, development, problems) or "1"
    with suppress(ValueError):
        if 1 <= (haste := float(written)) < math.inf:
            return haste
    said = f'"{written}" is not a number of 1 or more.'
    problems.append(wrong("RELAY_HASTE", said, "Write 1, or more to make time run faster."))
    return 1.0


def for_developers(
    name: str, read: Callable[[str], str], development: bool, problems: list[Problem]
) -> str:
    """A variable for development only; empty if it is refused."""
    if (value := read(name)) and not development:
        problems.append(wrong(name, "is for development only.", "Unset it."))
        return ""
    return value


def database_url(written: str) -> str:
    """The ledger's address for SQLAlchemy; accepts `postgres://`, as Heroku writes it."""
    scheme, separator, rest = written.partition("://")
    if scheme in ("postgres", "postgresql"):
        return f"postgresql+psycopg{separator}{rest}"
    return written or Settings.database_url


def ledger_url(written: str, problems: list[Problem]) -> str:
    """Return the database URL, noting a problem if Relay cannot use that database."""
    url = database_url(written)
    if not url.startswith(_DATABASES):
        remedy = "Write postgres://…"
        problems.append(wrong("DATABASE_URL", "is not a database that Relay can use.", remedy))
    problems += server_url("DATABASE_URL", url)
    return url


_IN_PASSWORDS = "In the password write %40 for @, %2F for /, %23 for #, %3F for ?, %25 for %."
_PORT = re.compile(r"(?:\[[^\]]*\]|[^:/?#]*):([^/?#]*)")


def server_url(name: str, value: str) -> Iterator[Problem]:
    """Problems with a server's address. They quote none of it: any part may be of the password."""
    scheme, _, rest = value.partition("://")
    if scheme in ("sqlite", "unix"):
        return
    if scheme.startswith("redis"):  # it reads this as a browser does: the host ends at one of these
        _, at, where = re.split("[/?#]", rest)[0].rpartition("@")
        is_misread = "@" in rest and not at
    else:  # user and password are before the first @
        _, at, after = rest.partition("@")
        where = after if at else rest
        is_misread = "@" in where.partition("?")[0]
    if is_misread:
        said = "has a character in its password that means something else in an address."
        yield wrong(name, said, _IN_PASSWORDS)
    elif (port := _PORT.match(where)) and not re.fullmatch(r"\d{1,5}", port[1], re.ASCII):
        yield wrong(name, "has a port that is no number.", "Write it as in host:5432/name.")


def missing_settings(settings: Settings, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield a problem for each setting that is missing, or unfit for this environment."""
    if settings.desk_ready and not settings.secret_key:
        yield wrong("SECRET_KEY", "is not set.", "The admin desk needs it for its sessions.")
    if settings.database_url.startswith("sqlite") and environ.get("DYNO"):
        remedy = "This platform empties its disk at each restart: attach PostgreSQL."
        yield wrong("DATABASE_URL", "is SQLite, or not set.", remedy)
    if settings.redis_url and not settings.redis_url.startswith(_REDIS):
        yield wrong("REDIS_URL", "is not a Redis URL.", f"Write {_REDIS[0]}…")
    if settings.development:
        return
    yield from guessable(settings)
    if not settings.webhook_secrets:
        remedy = "Set the secret that the lab sends with each webhook."
        yield wrong("WEBHOOK_SECRET", "is not set.", remedy)
    if not settings.redis_url:
        yield wrong("REDIS_URL", "is not set.", "The queue needs it outside development.")


SHORTEST = 12  # characters that a secret needs


def guessable(settings: Settings) -> Iterator[Problem]:
    """Secrets that a stranger could guess, to post as the lab, log in or read the figures."""
    for name, values in (
        ("WEBHOOK_SECRET", settings.webhook_secrets),
        ("ADMIN_PASSWORD", (settings.admin_password,)),
        ("SECRET_KEY", (settings.secret_key, *settings.former_secret_key)),
        ("METRICS_TOKEN", (settings.metrics_token,)),
    ):
        if any(0 < len(value) < SHORTEST for value in values):
            said = f"has fewer than {SHORTEST} characters, so that somebody could guess it."
            yield wrong(name, said, "`openssl rand -hex 24` makes a good one.")


def odd(settings: Settings) -> Iterator[Problem]:
    """Find settings of the wrong form: the fault would only show when they are needed."""
    if settings.admin_password_hash and not _HASH.fullmatch(settings.admin_password_hash):
        said = "is not a complete hash: nobody could log in."
        remedy = "It begins with scrypt: and has two $ signs. Put it in single quotes."
        yield wrong("ADMIN_PASSWORD_HASH", said, remedy)
    if settings.sentry_dsn and not logs.is_dsn(settings.sentry_dsn):
        remedy = "Copy it from Sentry, Client Keys: it looks like https://key@host/project."
        yield wrong("SENTRY_DSN", "is not a Sentry DSN.", remedy)
    key, former = settings.sendgrid_webhook_public_key, settings.former_sendgrid_webhook_public_key
    if any(one and not is_key(one) for one in (key, *former)):
        said = "is not a signed event webhook's key: Relay would refuse every receipt."
        where = "Copy it from SendGrid, Mail Settings, Event Webhook"
        remedy = f"{where}: one line that begins with MFkw."
        yield wrong("SENDGRID_WEBHOOK_PUBLIC_KEY", said, remedy)
