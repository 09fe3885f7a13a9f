"""The environment, as the contract's table has it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from werkzeug.security import generate_password_hash

from relay.config.settings import Settings, from_environment
from relay.errors import ConfigError

LIVE = {"WEBHOOK_SECRET": "the-labs-secret", "REDIS_URL": "redis://127.0.0.1:6379"}
DEVELOPMENT = {"RELAY_ENV": "development"}
HASH = f"scrypt:32768:8:1$salt${'0f' * 64}"
# Keys as SendGrid shows them: of its documentation's example, and another.
KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEDr2LjtURuePQzplybdC+u4CwrqDqBaWjcMMsTbhdbcwHBcepxo7yAQGhHPT"
    "nlvFYPAZFceEu/1FwCM/QmGUhA=="
)


def wrong(environ: dict[str, str]) -> list[str]:
    """The variables that are wrong, each told as a problem of the environment."""
    with pytest.raises(ConfigError) as caught:
        from_environment(environ)
    assert {problem.where for problem in caught.value.problems} == {"environment"}
    return [problem.key for problem in caught.value.problems]


def test_defaults_are_the_documented_ones() -> None:
    """What is not set has the contract's value: production, dry-run, the lab's own API."""
    settings = from_environment(LIVE)
    assert not settings.development
    assert settings.delivery == "dry-run"
    assert settings.lab_api_url == "https://api.londonmedicallaboratory.com"
    assert settings.database_url == "sqlite:///instance/relay.db"
    assert (settings.config, settings.templates) == (Path("config.toml"), Path("templates"))
    assert settings.redis_tls_verify
    assert not settings.accounts["sms"]
    assert not settings.sendgrid_api_key
    assert not settings.desk_ready
    assert settings.log_level == "INFO"
    assert (settings.crash_at, settings.haste) == ("", 1.0)
    assert settings.trusted_proxies == 1


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("LAB_API_URL", "https://lab.example/", "lab_api_url", "https://lab.example"),
        ("LAB_API_TOKEN", " token ", "lab_api_token", "token"),
        ("TWILIO_FROM", "+447700900123", "twilio_from", "+447700900123"),
        ("TWILIO_MESSAGING_SERVICE_SID", "MG1", "twilio_messaging_service_sid", "MG1"),
        ("TWILIO_API_URL", "https://eu.example", "twilio_api_url", "https://eu.example"),
        ("SENDGRID_API_KEY", "SG.1", "sendgrid_api_key", "SG.1"),
        ("SENDGRID_API_URL", "https://eu.example", "sendgrid_api_url", "https://eu.example"),
        ("PUBLIC_URL", "https://relay.example/", "public_url", "https://relay.example"),
        ("RELAY_DELIVERY", "live", "delivery", "live"),
        ("RELAY_DELIVERY", "allow-list", "delivery", "allow-list"),
        ("RELAY_CONFIG", "/etc/relay.toml", "config", Path("/etc/relay.toml")),
        ("RELAY_TEMPLATES", "/etc/words", "templates", Path("/etc/words")),
        ("REDIS_TLS_VERIFY", "false", "redis_tls_verify", False),
        ("LOG_LEVEL", "DEBUG", "log_level", "DEBUG"),
        ("RELAY_ENV", "", "development", False),
        ("DATABASE_CONNECTIONS", "8", "database_connections", 8),
        ("TRUSTED_PROXIES", "2", "trusted_proxies", 2),
    ],
)
def test_each_variable_is_read(name: str, value: str, field: str, expected: object) -> None:
    """A variable means what the contract says; an empty one counts as not set."""
    assert getattr(from_environment({**LIVE, name: value}), field) == expected


@pytest.mark.parametrize(
    ("written", "used"),
    [
        ("postgres://u:p@host:5432/db", "postgresql+psycopg://u:p@host:5432/db"),
        ("postgresql://u:p@host/db", "postgresql+psycopg://u:p@host/db"),
        ("postgresql+psycopg://u@host/db", "postgresql+psycopg://u@host/db"),
        ("sqlite:////var/relay.db", "sqlite:////var/relay.db"),
        ("", "sqlite:///instance/relay.db"),
    ],
)
def test_database_url_is_taken_as_platforms_write_it(written: str, used: str) -> None:
    """`postgres://`, as Heroku writes it, is as good as what SQLAlchemy wants."""
    assert from_environment({**LIVE, "DATABASE_URL": written}).database_url == used


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h/d", "hunter2", "redis://:hunter2@h"])
def test_another_database_is_refused_and_not_repeated(url: str) -> None:
    """A ledger that Relay cannot use stops the start, for commands too; its password stays."""
    with pytest.raises(ConfigError, match="environment: DATABASE_URL: ") as caught:
        from_environment({**LIVE, "DATABASE_URL": url}, to_serve=False)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "sqlite:///relay.db"])
@pytest.mark.parametrize("base", [LIVE, DEVELOPMENT])
def test_sqlite_is_refused_on_a_disk_that_vanishes(base: dict[str, str], url: str) -> None:
    """On a dyno the ledger would be gone at the next restart, so nothing starts."""
    assert wrong({**base, "DYNO": "web.1", "DATABASE_URL": url}) == ["DATABASE_URL"]


def test_postgresql_is_taken_on_a_dyno() -> None:
    """On a dyno with a real database all is well."""
    assert from_environment({**LIVE, "DYNO": "web.1", "DATABASE_URL": "postgres://u@h/d"})


@pytest.mark.parametrize("missing", LIVE)
@pytest.mark.parametrize("value", ["", " ", ","])
def test_production_does_not_start_without(missing: str, value: str) -> None:
    """Outside development an open webhook, or no queue, stops the start."""
    assert wrong({**LIVE, missing: value}) == [missing]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("WEBHOOK_SECRET", "x"),
        ("WEBHOOK_SECRET", "a-secret-of-16-ch, elevenchars"),
        ("ADMIN_PASSWORD", "1"),
        ("SECRET_KEY", "a"),
        ("SECRET_KEY", "a-key-of-14-ch,former"),
        ("METRICS_TOKEN", "elevenchars"),
    ],
)
def test_a_secret_that_can_be_guessed_stops_the_start(name: str, written: str) -> None:
    """Outside development each secret of ours has 12 characters or more, the former ones too. It is
    not repeated; a command for a person runs all the same.
    """
    environ = {**LIVE, **KEY_OF_OURS, name: written}
    with pytest.raises(ConfigError) as caught:
        from_environment(environ)
    assert [problem.key for problem in caught.value.problems] == [name]
    assert "has fewer than 12 characters" in str(caught.value)
    assert "elevenchars" not in str(caught.value)
    assert from_environment(environ, to_serve=False)
    assert from_environment({**environ, **DEVELOPMENT})
    assert from_environment({**environ, name: "x" * 12})


def test_development_starts_with_nothing_set() -> None:
    """A fresh copy starts on its defaults, with the desk open."""
    settings = from_environment(DEVELOPMENT)
    assert settings.development
    assert settings.webhook_secrets == ()
    assert settings.desk_ready


def test_commands_need_less_than_servers() -> None:
    """A command for a person runs without what only web and worker need."""
    assert from_environment({}, to_serve=False).webhook_secrets == ()


@pytest.mark.parametrize(
    ("written", "secrets"),
    [
        ("one", ("one",)),
        ("new,old", ("new", "old")),
        (" new , old ,", ("new", "old")),
    ],
)
def test_secrets_can_be_rotated(written: str, secrets: tuple[str, ...]) -> None:
    """Several secrets, comma-separated, are valid at once."""
    assert from_environment({"WEBHOOK_SECRET": written}, to_serve=False).webhook_secrets == secrets


@pytest.mark.parametrize("name", ["TWILIO_AUTH_TOKEN", "SENDGRID_WEBHOOK_PUBLIC_KEY", "SECRET_KEY"])
@pytest.mark.parametrize(
    ("written", "current", "former"),
    [("", "", ()), ("one", "one", ()), (" new , old, older ,", "new", ("old", "older"))],
)
def test_the_first_is_ours_and_each_is_taken(
    name: str, written: str, current: str, former: tuple[str, ...]
) -> None:
    """A secret with which Relay signs or sends itself may have former ones behind it."""
    settings = from_environment({**LIVE, name: written}, to_serve=False)
    assert getattr(settings, name.lower()) == current
    assert getattr(settings, f"former_{name.lower()}") == former


@pytest.mark.parametrize("name", ["LAB_API_URL", "TWILIO_API_URL", "SENDGRID_API_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "http://api.example",
        "http://10.0.0.1",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://0.0.0.0",
        "ftp://api.example",
        "api.example",
        "https://",
        "https://user:hunter2@api.example",
        "http://localhost@api.example",
        "http://[::1",
        "//api.example",
    ],
)
def test_a_token_goes_over_tls_only(name: str, url: str) -> None:
    """An address that would show a secret on the wire stops the start, and is not repeated."""
    with pytest.raises(ConfigError) as caught:
        from_environment({**LIVE, name: url})
    assert [problem.key for problem in caught.value.problems] == [name]
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["LAB_API_URL", "TWILIO_API_URL", "SENDGRID_API_URL"])
@pytest.mark.parametrize(
    "url", ["http://localhost:5001", "http://127.0.0.1:5001", "http://127.1.2.3", "http://[::1]:80"]
)
def test_a_stand_in_on_this_machine_may_be_plain_http(name: str, url: str) -> None:
    """Plain HTTP is taken on loopback, where nobody can listen."""
    assert getattr(from_environment({**LIVE, name: url}), name.lower()) == url


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("RELAY_ENV", "produciton", 'Did you mean "production"?'),
        ("RELAY_DELIVERY", "dryrun", 'Did you mean "dry-run"?'),
        ("REDIS_TLS_VERIFY", "no", "Choose from: false, true."),
        ("LOG_LEVEL", "INFOS", 'Did you mean "INFO"?'),
        ("TRUSTED_PROXIES", "0", "Choose from: 1, 2, 3, 4, 5."),
        ("TRUSTED_PROXIES", "six", "Choose from: 1, 2, 3, 4, 5."),
    ],
)
def test_an_unknown_word_is_refused_with_the_nearest(name: str, value: str, remedy: str) -> None:
    """A misspelt choice stops the start: it never falls back to something else in silence."""
    with pytest.raises(ConfigError) as caught:
        from_environment({**LIVE, name: value})
    assert str(caught.value) == f'environment: {name}: unknown value "{value}". {remedy}'


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "WEBHOOK_SECRET",
            '"the-labs-secret"',
            "has quotes around it, which count as a part of it.",
        ),
        ("LAB_API_TOKEN", "'token-of-ours'", "Remove them."),
        (
            "RELAY_DELIVERI",
            "live",
            "is not a variable that Relay reads. Did you mean RELAY_DELIVERY?",
        ),
        ("RELAY_TEMPLATE", "words", "Did you mean RELAY_TEMPLATES?"),
        ("LAB_API_URL", "https://lab.example/api/", "ends in /api, which Relay adds itself."),
        (
            "WEB_CONCURRENCY",
            "two",
            '"two" is not one. Write a whole number from 1 to 100 in digits.',
        ),
        ("PORT", "70000", "Write a whole number from 1 to 65535 in digits."),
    ],
)
def test_what_is_nearly_right_is_refused_with_what_to_write(
    name: str, value: str, said: str
) -> None:
    """A value or a name that would pass, and be missed by whoever wrote it, stops the start."""
    with pytest.raises(ConfigError) as caught:
        from_environment({**LIVE, name: value})
    assert [problem.key for problem in caught.value.problems] == [name]
    assert said in str(caught.value)
    assert from_environment({**LIVE, "RELAY_HOST": "x", "PORT": "1", "OTHER": "'x'"})


def test_a_developer_may_kill_and_hurry_relay() -> None:
    """In development a failpoint can be armed, and the ledger's waits made shorter."""
    told = {"RELAY_CRASH_AT": "message.claimed", "RELAY_HASTE": "2.5"}
    settings = from_environment({**DEVELOPMENT, **told})
    assert (settings.crash_at, settings.haste) == ("message.claimed", 2.5)


def test_an_unknown_failpoint_is_refused_with_the_nearest() -> None:
    """A test that kills nothing because of a misspelt point would pass in silence."""
    with pytest.raises(ConfigError) as caught:
        from_environment({**DEVELOPMENT, "RELAY_CRASH_AT": "mesage.claimed"})
    said = 'unknown value "mesage.claimed". Did you mean "message.claimed"?'
    assert str(caught.value) == f"environment: RELAY_CRASH_AT: {said}"


@pytest.mark.parametrize("written", ["0", "0.5", "-30", "fast", "nan", "inf", "1e999"])
def test_a_haste_is_a_number_from_one_up(written: str) -> None:
    """Time neither stands still nor goes slower than it does."""
    with pytest.raises(ConfigError) as caught:
        from_environment({**DEVELOPMENT, "RELAY_HASTE": written})
    said = f'"{written}" is not a number of 1 or more. Write 1, or more to make time run faster.'
    assert str(caught.value) == f"environment: RELAY_HASTE: {said}"


@pytest.mark.parametrize(
    ("name", "value"),
    [("RELAY_CRASH_AT", "message.claimed"), ("RELAY_CRASH_AT", "x"), ("RELAY_HASTE", "30")],
)
def test_nobody_kills_or_hurries_a_clinics_relay(name: str, value: str) -> None:
    """Outside development both stop the start, whatever they say."""
    with pytest.raises(ConfigError) as caught:
        from_environment({**LIVE, name: value})
    said = "is for development only. Unset it."
    assert str(caught.value) == f"environment: {name}: {said}"


KEY_OF_OURS = {"SECRET_KEY": "k" * 12}


@pytest.mark.parametrize("password", [{"ADMIN_PASSWORD": "p" * 12}, {"ADMIN_PASSWORD_HASH": HASH}])
def test_the_desk_needs_a_secret_key(password: dict[str, str]) -> None:
    """With a password for the desk, sessions need a key of their own; with both it is on."""
    assert wrong({**LIVE, **password}) == ["SECRET_KEY"]
    assert from_environment({**LIVE, **password, **KEY_OF_OURS}).desk_ready


@pytest.mark.parametrize(
    "written",
    ["letmein", "scrypt:x", "scrypt:32768:8:1", HASH[:-1], HASH.replace("$salt", ""), "md5$a$b"],
)
def test_what_is_no_hash_stops_the_start(written: str) -> None:
    """A password where its hash belongs, or a hash of which a shell has eaten what follows a `$`:
    nobody could log in by it. It is not repeated.
    """
    with pytest.raises(ConfigError) as caught:
        from_environment({**LIVE, "ADMIN_PASSWORD_HASH": written, **KEY_OF_OURS})
    assert [problem.key for problem in caught.value.problems] == ["ADMIN_PASSWORD_HASH"]
    assert "single quotes" in str(caught.value)
    assert written not in str(caught.value)


@pytest.mark.parametrize("method", ["scrypt", "pbkdf2:sha256:1", "pbkdf2:sha512:1"])
def test_each_hash_that_werkzeug_makes_is_taken(method: str) -> None:
    """By whatever method an admin has made it."""
    hashed = generate_password_hash("letmein", method)
    assert from_environment({**LIVE, "ADMIN_PASSWORD_HASH": hashed, **KEY_OF_OURS}).desk_ready


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("relay.example.org", '"relay.example.org" is not a valid public address'),
        ("//relay.example.org", "is not a valid public address"),
        ("https://", '"https://" is not a valid public address'),
        ("https://relay.example:port", "is not a valid public address"),
        ("https://relay .example", "is not a valid public address"),
        ("ftp://relay.example", "is not a valid public address"),
        ("https://…", '"https://…" is not a valid public address'),  # as a recipe of ours has it
        ("https://relay.example/x?y", '"https://relay.example/x?y" is not a valid public address'),
        ("https://relay.example/#x", "is not a valid public address"),
        ("https://u:hunter2@relay.example", "is not a valid public address"),
        ("http://relay.example", '"http://relay.example" is plain http'),
        ("http://127.0.0.1:8000", "is plain http"),
    ],
)
def test_a_public_url_that_twilio_refuses_stops_the_start(written: str, said: str) -> None:
    """Every text names it: by a wrong one Twilio would refuse them all (21609)."""
    with pytest.raises(ConfigError) as caught:
        from_environment({**LIVE, "PUBLIC_URL": written})
    told = str(caught.value)
    assert [problem.key for problem in caught.value.problems] == ["PUBLIC_URL"]
    assert said in told
    assert "https://your-host" in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("base", "url"),
    [
        (DEVELOPMENT, "http://127.0.0.1:8000"),
        (LIVE, "https://relay.example:8443"),
        (LIVE, "https://proxy.example/relay"),  # a proxy that takes its own path away
    ],
)
def test_a_public_url_that_can_be_called_is_taken(base: dict[str, str], url: str) -> None:
    """Https anywhere, behind a proxy's path too; in development plain http as well."""
    assert from_environment({**base, "PUBLIC_URL": url}).public_url == url


@pytest.mark.parametrize(
    "written",
    ["nonsense", "https://sentry.example/7", "https://hunter2@sentry.example/x", "https://k@h:x/7"],
)
def test_a_sentry_dsn_that_is_none_stops_the_start(written: str) -> None:
    """It is told as a problem of the environment, by a release too, and not by a traceback."""
    with pytest.raises(ConfigError) as caught:
        from_environment({**LIVE, "SENTRY_DSN": written})
    assert [problem.key for problem in caught.value.problems] == ["SENTRY_DSN"]
    assert "https://key@host/project" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert from_environment({**LIVE, "SENTRY_DSN": "https://key@sentry.example/7"}).sentry_dsn


@pytest.mark.parametrize("written", ["garbage", "SG.hunter2", KEY[:-4], f"{KEY},hunter2"])
def test_a_webhook_key_that_is_none_stops_the_start(written: str) -> None:
    """With it every receipt of SendGrid's would be refused. One of several is enough."""
    name = "SENDGRID_WEBHOOK_PUBLIC_KEY"
    with pytest.raises(ConfigError) as caught:
        from_environment({**LIVE, name: written})
    assert [problem.key for problem in caught.value.problems] == [name]
    assert "Event Webhook" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    """An admin sees every wrong variable in one go."""
    environ = {"RELAY_DELIVERY": "x", "LAB_API_URL": "http://lab.example", "DYNO": "web.1"}
    expected = {"RELAY_DELIVERY", "LAB_API_URL", "DATABASE_URL", "WEBHOOK_SECRET", "REDIS_URL"}
    assert set(wrong(environ)) == expected


def test_no_secret_stands_in_the_repr() -> None:
    """Settings that end up in a traceback or a log show no secret."""
    names = (
        "LAB_API_TOKEN",
        "WEBHOOK_SECRET",
        "TWILIO_ACCOUNT_SID",
        "TWILIO_AUTH_TOKEN",
        "SENDGRID_API_KEY",
        "ADMIN_PASSWORD",
        "ADMIN_PASSWORD_HASH",
        "SECRET_KEY",
    )
    environ = {name: f"hunter2-{name}" for name in names}
    environ["ADMIN_PASSWORD_HASH"] = HASH.replace("salt", "hunter2")
    environ["DATABASE_URL"] = "postgres://u:hunter2@host/db"
    environ["REDIS_URL"] = "rediss://:hunter2@host:6379"
    settings = from_environment(environ)
    values = " ".join(str(getattr(settings, field.name)) for field in fields(Settings))
    assert values.count("hunter2") == len(environ)
    assert "hunter2" not in repr(settings)
