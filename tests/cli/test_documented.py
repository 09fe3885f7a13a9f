"""The commands, variables and keys are there, help is given, and a page has each.

That the pages of commands, variables and keys are complete: tests/test_docs_tables.py and
tests/test_config_reference.py.
"""

from __future__ import annotations

import re

import pytest

from relay.cli import relay_group
from relay.rules.channels import variables
from tests.cli import contract
from tests.cli.conftest import Run
from tests.conftest import ROOT


def maybe(names: tuple[str, ...], not_built: tuple[str, ...]) -> list[object]:
    """The names, those that wait for code marked so: the day that it comes, the mark must go."""
    mark = pytest.mark.xfail(reason="not built yet", strict=True)
    return [pytest.param(n, marks=mark if n in not_built else ()) for n in names]


@pytest.mark.parametrize("name", maybe(contract.COMMANDS, contract.NOT_BUILT_COMMANDS))
def test_the_command_is_there_with_its_help(relay: Run, name: str) -> None:
    """Each command of the contract answers --help with what it does, in a sentence."""
    result = relay(name, "--help")
    assert result.exit_code == 0
    words = relay_group.commands[name].get_short_help_str(200)
    assert len(words.split()) > 3
    assert words.split()[0].istitle()


def test_every_option_has_a_help_text() -> None:
    """No option of any command has to be guessed."""
    bare = [
        f"{name} {parameter.opts[0]}"
        for name, command in relay_group.commands.items()
        for parameter in command.params
        if parameter.param_type_name == "option" and not getattr(parameter, "help", None)
    ]
    assert bare == []


def test_the_group_lists_every_command(relay: Run) -> None:
    """`flask relay --help` names each command with its purpose, and no command is a secret."""
    shown = dict(re.findall(r"^  ([a-z-]+) {2,}(\S.*)$", relay("--help").stdout, re.MULTILINE))
    shown.pop("--help", None)
    assert set(shown) == set(relay_group.commands)


def test_no_command_beyond_the_contract() -> None:
    """What the contract does not name is no command."""
    assert set(relay_group.commands) <= set(contract.COMMANDS)


def test_a_misspelt_command_is_refused(relay: Run) -> None:
    """An unknown command ends with 2."""
    assert relay("chek").exit_code == 2


@pytest.mark.parametrize("name", maybe(contract.VARIABLES, contract.NOT_BUILT_VARIABLES))
def test_the_example_environment_names_each_variable(name: str) -> None:
    """`.env.example` lists each variable of the contract, and ours reads it."""
    assert re.search(rf"^#?{name}=", (ROOT / ".env.example").read_text("utf-8"), re.MULTILINE)


def test_the_example_environment_has_no_strangers() -> None:
    """`.env.example` lists no variable that Relay does not have."""
    text = (ROOT / ".env.example").read_text("utf-8")
    assert set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE)) <= set(contract.VARIABLES)


def test_every_variable_that_is_read_is_documented() -> None:
    """What the code reads from the environment is on docs/environment.md."""
    sources = [*(ROOT / "relay").rglob("*.py"), ROOT / "gunicorn.conf.py", ROOT / "app.py"]
    text = "\n".join(path.read_text("utf-8") for path in sources)
    reads = r"(?:environ\.get\(|environ\[|read\(|choice\(|listed\(|for_developers\(|getenv\()"
    named = {*re.findall(rf'{reads}\s*"([A-Z][A-Z_]+)"', text), *variables()}
    assert {"REDIS_URL", "RELAY_HASTE", "WEB_CONCURRENCY"} <= named
    told = (ROOT / "docs" / "environment.md").read_text("utf-8")
    platforms = {"DYNO", "FLASK_RUN_FROM_CLI"}  # set by Heroku and by flask itself
    platforms |= {"PATH_INFO", "RAW_URI"}  # of a request, by WSGI
    assert {n for n in named - platforms if not re.search(rf"\b{n}\b", told)} == set()
