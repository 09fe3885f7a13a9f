"""`flask relay …`: the commands. They may know everything; heavy imports wait until first use.

Begin with `context`, which opens a command's settings, config and ledger.
"""

from __future__ import annotations

from typing import Any

import click
from flask.cli import AppGroup

from relay.cli import (
    case_commands,
    config_commands,
    context,
    edition_commands,
    ledger_commands,
    people_commands,
    simulate,
    stop_commands,
    user_commands,
    what_if_command,
)
from relay.errors import ConfigError, LedgerUnavailable, Problem, RelayError


class Commands(AppGroup):
    """Commands that all print their failures in the same way and then exit with 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and print its failure, if any."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            context.stop(*error.problems)
        except LedgerUnavailable as error:
            remedy = "Is DATABASE_URL right? Has `flask relay upgrade` been run?"
            context.stop(Problem(f"{error}.", where="ledger", remedy=remedy))
        except RelayError as error:
            context.stop(Problem(str(error), key=error.key, remedy=error.remedy))


relay_group = Commands(
    "relay",
    help="Check, try out and operate Relay. Secrets are in the environment, rules in config.toml.",
)
COMMANDS: tuple[click.Command, ...] = (
    config_commands.check,
    config_commands.ready,
    config_commands.preview,
    config_commands.send_test,
    ledger_commands.list_,
    ledger_commands.explain_,
    what_if_command.what_if,
    ledger_commands.replay,
    case_commands.resend,
    case_commands.list_cases,
    case_commands.act_on_case,
    people_commands.suppress,
    people_commands.unsuppress,
    people_commands.forget,
    user_commands.user,
    user_commands.access,
    edition_commands.edition,
    stop_commands.stop,
    stop_commands.resume,
    ledger_commands.sweep,
    ledger_commands.purge,
    ledger_commands.upgrade,
    simulate.simulate,
)
for command in COMMANDS:
    relay_group.add_command(command)
