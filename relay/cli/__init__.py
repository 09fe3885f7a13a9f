"""`flask relay …`: what people do from a terminal. Heavy imports wait until they are used."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from relay.cli import (
    config_commands,
    explain_command,
    forget_command,
    ledger_commands,
    play,
    suppression_commands,
    what_if_command,
)

relay_group = AppGroup(
    "relay",
    help="Check, try out and operate Relay. Secrets are in the environment, rules in config.toml.",
)
COMMANDS: tuple[click.Command, ...] = (
    config_commands.check,
    config_commands.preview,
    config_commands.send_test,
    ledger_commands.list_,
    explain_command.explain_,
    what_if_command.what_if,
    ledger_commands.replay,
    suppression_commands.suppress,
    suppression_commands.unsuppress,
    forget_command.forget,
    ledger_commands.sweep,
    ledger_commands.purge,
    ledger_commands.upgrade,
    play.simulate,
)
for command in COMMANDS:
    relay_group.add_command(command)
