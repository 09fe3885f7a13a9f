"""Config and templates together, as a worker starts: with both right, or not at all.

The web process reads config.toml alone: with a broken template it still takes the lab's events.
"""

from __future__ import annotations

from relay import check
from relay.config import Config
from relay.config import load as load_config
from relay.errors import ConfigError
from relay.messages import Templates
from relay.settings import Settings


def load(settings: Settings) -> Config:
    """The configuration, its templates tried. Raises ConfigError with all that is wrong."""
    config = load_config(settings)
    found = [*check.templates(config, Templates(settings.templates)), *check.senders(config)]
    problems = [problem for problem in found if not problem.warning]
    if problems:
        raise ConfigError(problems)
    return config
