"""`flask relay …` as it is typed: a process of its own, its exit code and its two outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.ledger.database import Database
from relay.ledger.schema import events
from tests.conftest import DATABASES, ROOT

HEAVY = ("rq", "redis", "twilio", "sendgrid", "sqlalchemy", "alembic", "phonenumbers", "css_inline")
Flask = Callable[..., "subprocess.CompletedProcess[str]"]
pytestmark = pytest.mark.slow
one_database = pytest.mark.parametrize("ledger_url", DATABASES[-1:], indirect=True)


def python(
    *arguments: str, env: dict[str, str], cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """A Python process that has ended."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def bare() -> dict[str, str]:
    """What a shell gives any process, and nothing of Relay's."""
    return {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}


@pytest.fixture
def flask(environ: dict[str, str], bare: dict[str, str]) -> Flask:
    """`flask("check")` is `flask relay check` typed into a shell whose output is a pipe."""

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return python("-m", "flask", "relay", *arguments, env={**bare, **environ, **more})

    return run


@one_database
def test_a_story_from_release_to_purge(flask: Flask, tmp_path: Path) -> None:
    """On a fresh machine the commands of a release and of a day's work follow each other."""
    url = {"DATABASE_URL": f"sqlite:///{tmp_path}/fresh.db"}
    for arguments in (("check",), ("upgrade",), ("check",), ("sweep",), ("purge",)):
        result = flask(*arguments, **url)
        assert result.returncode == 0, (arguments, result.stderr)
    assert result.stderr == ""
    listed = flask("list", "--json", **url)
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, "", "")


@one_database
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("check", "--offline", "--config", "Makefile"), 1),
        (("preview", "kit-shiped"), 1),
        (("list", "--status", "snet"), 1),
        (("replay", "evt_none"), 1),
        (("replay",), 2),
        (("list", "--since", "soon"), 2),
        (("nonsense",), 2),
    ],
)
def test_failure_is_an_exit_code_and_no_traceback(
    flask: Flask, arguments: tuple[str, ...], code: int
) -> None:
    """A command that fails says why on stderr, in words, and ends with 1; misuse ends with 2."""
    result = flask(*arguments)
    assert result.returncode == code
    assert result.stderr
    assert "Traceback" not in result.stdout + result.stderr


@one_database
def test_no_colour_in_a_pipe(flask: Flask, config_file: Path, post: Callable[..., str]) -> None:
    """Output that is not for a terminal has no colour codes, in good news and in bad."""
    post("order.shipped")
    results = [flask("check"), flask("preview", "kit-shipped"), flask("sweep"), flask("list")]
    config_file.write_text(config_file.read_text("utf-8") + "\n[extra]\n", "utf-8")
    results.append(flask("check"))
    assert [r.returncode for r in results] == [0, 0, 0, 0, 1]
    for result in results:
        assert result.stdout + result.stderr
        assert "\x1b" not in result.stdout + result.stderr, result.args


@one_database
def test_json_is_not_mixed_with_logs(flask: Flask, post: Callable[..., str], db: Database) -> None:
    """What `--json` prints to stdout is JSON and nothing else: logs of the work go to stderr."""
    post("order.shipped")
    with db.write() as connection:
        connection.execute(events.update().values(tries=100))  # the next failure is the last
    result = flask("sweep", "--json", LOG_LEVEL="DEBUG", LAB_API_URL="http://127.0.0.1:1")
    assert set(json.loads(result.stdout)) == {"lapsed", "purged", "done"}
    assert "event held" in result.stderr


@one_database
def test_two_upgrades_at_once(
    environ: dict[str, str], bare: dict[str, str], tmp_path: Path
) -> None:
    """Two releases that upgrade one database at the same moment both end well."""
    url = f"sqlite:///{tmp_path}/two.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "flask", "relay", "upgrade"],
            cwd=ROOT,
            env={**bare, **environ, "DATABASE_URL": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs


def test_help_is_quick(bare: dict[str, str]) -> None:
    """`flask relay --help` loads no database, no queue and no provider's SDK."""
    script = (
        "import sys\n"
        "sys.argv = ['flask', 'relay', '--help']\n"
        "from flask.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    result = python("-c", script, env=bare)
    assert result.returncode == 0, result.stderr
    assert "Commands:" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


def test_help_needs_nothing(bare: dict[str, str], tmp_path: Path) -> None:
    """Without any environment, and with a broken config.toml, help is still given."""
    (tmp_path / "config.toml").write_text("broken", "utf-8")
    app = str(ROOT / "app.py")
    env = {**bare, "PYTHONPATH": str(ROOT)}
    result = python("-m", "flask", "--app", app, "relay", "--help", env=env, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_web_process_says_why_it_does_not_start(bare: dict[str, str], tmp_path: Path) -> None:
    """`gunicorn app:app` with a broken config ends at once, naming the line."""
    broken = tmp_path / "config.toml"
    broken.write_text("[clinic]\nname =\n", "utf-8")
    env = {**bare, "RELAY_ENV": "development", "RELAY_CONFIG": str(broken)}
    result = python("-c", "import app", env=env)
    assert result.returncode == 1
    assert f"{broken}:2: " in result.stderr
    assert "Traceback" not in result.stderr
