"""docs/platforms.md: what the platform runs, and that a ledger can be put back."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from glob import glob
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
import yaml

from relay.config.settings import OWN_ADDRESS, judge
from relay.jobs.tasks import Jobs
from relay.ledger.database import Database
from relay.ledger.schema import notifications
from relay.rules.schedule import Window
from tests.cli import contract
from tests.conftest import ROOT, drain
from tests.jobs.conftest import ORDER, Clinic, clinic
from tests.rows import rows

__all__ = ["clinic"]  # a fixture

PROCFILE = dict(
    line.split(": ", 1) for line in (ROOT / "Procfile").read_text("utf-8").splitlines() if line
)
APP = json.loads((ROOT / "app.json").read_text("utf-8"))
Restore = Callable[[], Database]


def release(**environ: str) -> subprocess.CompletedProcess[str]:
    """The Procfile's release phase."""
    command = PROCFILE["release"].replace("flask ", f"{sys.executable} -m flask ")
    return subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "RELAY_ENV": "development", **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def tables(path: Path) -> set[str]:
    """What a SQLite file has."""
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


@pytest.mark.slow
def test_a_broken_config_stops_a_release(tmp_path: Path) -> None:
    """The release fails before it changes the ledger; with a good config it brings the tables."""
    (tmp_path / "config.toml").write_text('[clinic]\nnmae = "x"\n', "utf-8")
    url = f"sqlite:///{tmp_path}/relay.db"
    refused = release(DATABASE_URL=url, RELAY_CONFIG=str(tmp_path / "config.toml"))
    assert refused.returncode == 1
    assert "nmae" in refused.stderr + refused.stdout
    assert tables(tmp_path / "relay.db") == set()
    done = release(DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    assert {"events", "notifications"} <= tables(tmp_path / "relay.db")


def test_the_platforms_files_name_what_there_is() -> None:
    """Procfile and app.json have the three processes, and only variables that Relay reads."""
    assert set(PROCFILE) == {"release", "web", "worker"}
    assert set(APP["formation"]) == {"web", "worker"}
    assert set(APP["env"]) <= set(contract.VARIABLES)
    assert {"ADMIN_PASSWORD", "SENDGRID_WEBHOOK_PUBLIC_KEY"} <= set(APP["env"])
    made = {name for name, one in APP["env"].items() if one.get("generator") == "secret"}
    assert made == {"WEBHOOK_SECRET", "SECRET_KEY", "ADMIN_PASSWORD", "METRICS_TOKEN"}
    assert [name for name, one in APP["env"].items() if not one["description"]] == []


def file(name: str) -> str:
    """A platform's file."""
    return (ROOT / name).read_text("utf-8")


def bare(command: str) -> str:
    """A command without the shell that a platform needs for its `&&`."""
    return re.sub(r"^(ba)?sh -c ['\"](.*)['\"]$", r"\2", command)


def test_the_image_is_the_procfiles_and_nobodys_root() -> None:
    """The Dockerfile has Python as .python-version names it, runs web, and not as root; secrets and
    the ledger of whoever builds it stay out.
    """
    steps = [
        line.partition(" ")[::2] for line in file("Dockerfile").splitlines() if line[:1] != "#"
    ]
    assert ("FROM", f"python:{file('.python-version').strip()}-slim") in steps
    assert " ".join(json.loads(steps[-1][1])) == PROCFILE["web"]
    assert ("USER", "relay") in steps
    assert {".env", ".git", ".venv", "instance"} <= set(file(".dockerignore").split())


def test_compose_runs_what_the_procfile_has() -> None:
    """compose.yaml has the three processes of one image, with time to stop, a Redis that evicts
    nothing, and web behind one proxy.
    """
    services = yaml.safe_load(file("compose.yaml"))["services"]
    assert {name: bare(services[name]["command"]) for name in PROCFILE} == PROCFILE
    for name in PROCFILE:
        assert services[name]["build"] == "."
        assert set(services[name]["environment"]) <= set(contract.VARIABLES)
        assert services[name]["stop_grace_period"] == "30s"
        assert "ports" not in services[name]
    assert "noeviction" in services["redis"]["command"]
    assert services["proxy"]["command"].endswith("web:8000")


def test_render_runs_what_the_procfile_has() -> None:
    """render.yaml has the processes, sets only what Relay reads, makes the secrets, and tells the
    worker where web is: it is the one that names the address of receipts.
    """
    made = yaml.safe_load(file("render.yaml"))
    redis, web, worker = made["services"]
    assert redis["maxmemoryPolicy"] == "noeviction"
    assert (web["preDeployCommand"], web["startCommand"], worker["startCommand"]) == (
        *(PROCFILE[name] for name in ("release", "web", "worker")),
    )
    assert web["healthCheckPath"] == "/healthz"
    assert web["maxShutdownDelaySeconds"] == worker["maxShutdownDelaySeconds"] == 30
    (group,) = made["envVarGroups"]
    secret = {one["key"] for one in group["envVars"] if one.get("generateValue")}
    assert secret == {"WEBHOOK_SECRET", "SECRET_KEY", "ADMIN_PASSWORD", "METRICS_TOKEN"}
    sources = {one["key"]: one for one in worker["envVars"] if "key" in one}
    assert sources["PUBLIC_URL"]["fromService"]["envVarKey"] in OWN_ADDRESS
    names = {one["key"] for one in (*group["envVars"], *web["envVars"]) if "key" in one}
    assert names | sources.keys() <= set(contract.VARIABLES)


def test_fly_runs_what_the_procfile_has() -> None:
    """fly.toml has the processes, sets only what Relay reads, and gives them time to stop."""
    made = tomllib.loads(file("fly.toml"))
    release = bare(made["deploy"]["release_command"])
    assert {"release": release, **made["processes"]} == PROCFILE
    assert made["env"].keys() <= set(contract.VARIABLES)
    assert str(made["http_service"]["internal_port"]) == made["env"]["PORT"]
    assert (made["kill_signal"], made["kill_timeout"]) == ("SIGTERM", 30)
    assert made["http_service"]["checks"][0]["path"] == "/healthz"


@pytest.mark.parametrize(
    ("name", "value", "url"),
    [
        ("RENDER_EXTERNAL_URL", "https://relay.onrender.com", "https://relay.onrender.com"),
        ("HEROKU_APP_DEFAULT_DOMAIN_NAME", "a-1.herokuapp.com", "https://a-1.herokuapp.com"),
        ("FLY_APP_NAME", "my-relay", "https://my-relay.fly.dev"),
    ],
)
def test_a_platform_says_where_relay_is(name: str, value: str, url: str) -> None:
    """Without PUBLIC_URL receipts come to the address that the platform names; PUBLIC_URL wins."""
    assert name in OWN_ADDRESS
    found = judge({name: value})[0]
    assert (found.public_url, found.receipts["sms"], found.is_platforms_url) == (url, True, True)
    own = judge({name: value, "PUBLIC_URL": "https://relay.clinic.org"})[0]
    assert (own.public_url, own.is_platforms_url) == ("https://relay.clinic.org", False)


def test_an_edit_in_the_browser_is_checked() -> None:
    """GitHub judges config.toml and the templates of each push and pull request."""
    made = yaml.safe_load(file(".github/workflows/check.yml"))
    assert set(made[True]) == {"push", "pull_request"}  # YAML reads `on` as true
    assert made["jobs"]["check"]["steps"][-1] == {"run": "flask relay check --offline"}


def test_the_page_names_what_there_is() -> None:
    """docs/platforms.md shows each platform what the Procfile runs, and sets no stranger."""
    text = (ROOT / "docs" / "platforms.md").read_text("utf-8")
    for platform in ("Heroku", "Dokku", "Render", "Fly", "Docker"):
        assert f"\n## {platform}" in text
    for command in PROCFILE.values():
        assert command in text
    named = set(re.findall(r"\b([A-Z][A-Z_]{3,})=", text))
    assert named - set(contract.VARIABLES) == {"POSTGRES_PASSWORD"}  # of compose.yaml's database


@pytest.mark.parametrize("name", ["PUBLIC_URL", "METRICS_TOKEN", "WEBHOOK_SECRET", "SECRET_KEY"])
def test_every_way_to_live_sets_what_is_missed_later(name: str) -> None:
    """app.json, the README and each platform's recipe leave neither receipts off nor
    /metrics open.
    """
    page = (ROOT / "docs" / "platforms.md").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    ways = dict(
        re.findall(r"^## (Heroku|Dokku|Render|Fly|Docker)\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    )
    ways["README"] = readme.partition("\n## Deploy it\n")[2].partition("\n## ")[0]
    ways["app.json"] = " ".join(APP["env"])
    assert len(ways) == 7
    assert [way for way, told in ways.items() if name not in told] == []


def program(name: str) -> str:
    """One of PostgreSQL's own, the newest that is here; empty where there is none."""
    found = glob(f"/usr/lib/postgresql/*/bin/{name}")
    newest = max(found, key=lambda path: int(path.split("/")[-3]), default="")
    return newest or shutil.which(name) or ""


@pytest.fixture
def backup(ledger_url: str, tmp_path: Path) -> Iterator[Callable[[], Restore]]:
    """Backs the ledger up as docs/runbook.md says; restores it into another database."""
    opened: list[Database] = []
    made = sa.make_url(ledger_url)
    other = made.set(database=f"{made.database}_restored")

    def run(name: str, *arguments: str) -> None:
        address = ["-h", str(made.host), "-p", str(made.port or 5432), "-U", str(made.username)]
        password = {"PGPASSWORD": made.password} if made.password else {}
        environ = {**os.environ, **password}
        subprocess.run([program(name), *address, *arguments], env=environ, check=True, timeout=60)

    def of_postgresql() -> Restore:
        if not program("pg_dump"):
            pytest.skip("there is no pg_dump here")
        file = str(tmp_path / "relay.dump")
        run("pg_dump", "-Fc", "-f", file, str(made.database))

        def restore() -> Database:
            run("createdb", str(other.database))
            run("pg_restore", "--no-owner", "-d", str(other.database), file)
            return Database(other.render_as_string(hide_password=False), patience=5)

        return restore

    def of_sqlite() -> Restore:
        copy = tmp_path / "restored.db"
        with (
            closing(sqlite3.connect(str(made.database))) as now,
            closing(sqlite3.connect(copy)) as then,
        ):
            now.backup(then)
        return lambda: Database(f"sqlite:///{copy}", patience=5)

    def back_up() -> Restore:
        restore = of_sqlite() if made.drivername == "sqlite" else of_postgresql()

        def kept() -> Database:
            opened.append(restore())
            return opened[-1]

        return kept

    yield back_up
    for db in opened:
        db.close()
        if made.drivername != "sqlite":
            run("dropdb", "--force", str(other.database))


COUNTS = "It counts as sent: it was due before the ledger was restored."


def _shut() -> Window:
    """A send window that opens in some hours."""
    opens = datetime.now(ZoneInfo("Europe/London")) + timedelta(hours=6)
    return Window.parse(f"{opens:%H:%M}-{opens + timedelta(hours=1):%H:%M}")


def test_a_restored_ledger_goes_on_without_sending_twice(
    clinic: Clinic, backup: Callable[[], Restore]
) -> None:
    """What had gone out before the backup stays told. What waited then and went out since is
    marked by `sweep --as-sent`, as docs/runbook.md says, also at night; what is new goes out,
    once.
    """
    clinic.orders(3)
    clinic.work()
    assert len(clinic.twilio.accepted) == 3
    clinic.post(order_id=ORDER)
    restore = backup()
    clinic.work()
    assert len(clinic.twilio.accepted) == 4

    db = restore()
    assert {row["status"] for row in rows(db, notifications)} == {"sent"}
    config = clinic.jobs.config
    shut = replace(config, delivery=replace(config.delivery, send_window=_shut()))
    jobs = Jobs(shut.as_sent(), db)
    jobs.sweep()
    drain(jobs)
    assert [r["reason"] for r in rows(db, notifications)].count(COUNTS) == 1
    after = replace(clinic, db=db)
    after.post(order_id=ORDER)  # the lab posts again what it has posted since
    after.orders(4)  # three of which it had posted before
    after.work(timedelta(minutes=1))
    assert [row["status"] for row in rows(db, notifications)] == ["sent"] * 5
    told = [request.form["To"] for request in clinic.twilio.accepted]
    assert len(told) == len(set(told)) == 5
