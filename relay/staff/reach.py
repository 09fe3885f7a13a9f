"""Asks the lab and the providers whether they would work with us."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from relay.channels import Channels
from relay.config.loader import Config
from relay.config.settings import Settings, wrong
from relay.errors import LabError, Problem
from relay.http_client import HttpClient
from relay.lab.client import LabClient
from relay.lab.events import EVENTS
from relay.rules.addresses import AT_HOME, PHONE
from relay.rules.channels import CHANNELS, Provider

# Words in a host's name → its region:
# https://www.twilio.com/docs/global-infrastructure/understanding-twilio-regions
# https://www.twilio.com/docs/sendgrid/for-developers/sending-email/data-residency
_REGIONS = {"eu": "EU", "ie1": "EU", "au1": "Australia", "us1": "USA"}
_SID = 6  # characters of an account's id that are shown


def check_providers(config: Config) -> Iterator[Problem]:
    """Yield the faults of our accounts, for each channel by which messages should go out."""
    settings, delivery = config.settings, config.delivery
    channels = Channels(settings, delivery.senders, delivery.allow)
    for name, row in CHANNELS.items():
        for found in channels.account_faults(name) or ():
            yield Problem(
                found.wrong, row.provider.name, remedy=found.remedy, warning=found.is_warning
            )


def in_use(config: Config) -> str:
    """Describe delivery, each channel with its account and sender, the ledger and the rules."""
    settings, senders = config.settings, config.delivery.senders
    parts = [f"Delivery: {settings.delivery}"]
    for name, row in CHANNELS.items():
        account = settings.variable(row.provider.account[0])
        shown = f" {account[:2]}…{account[-4:]}" if len(account) > _SID and row.in_segments else ""
        instead = map(settings.variable, row.sender.instead if row.sender else ())
        sender = next(filter(None, (*instead, senders[name])), "nobody")
        abroad = sorted(config.policy.countries - AT_HOME) if row.address == PHONE else ()
        far = f", also to {' and '.join(abroad)}, each at its own price" if abroad else ""
        who = f"{row.provider.name}{shown} from {sender}{data_goes(settings, row.provider)}{far}"
        who = who if account else "no account"
        parts.append(f"{row.title}: {who}")
    ledger = "SQLite" if settings.database_url.startswith("sqlite") else "PostgreSQL"
    rules = sum(rule.enabled for rule in config.rules)
    return ". ".join((*parts, f"Ledger: {ledger}", f"{rules} rules on")) + "."


def data_goes(settings: Settings, provider: Provider) -> str:
    """The destination of the data: the provider's host, and the region that its name shows."""
    url = urlsplit(settings.variable(f"{provider.name.upper()}_API_URL"))
    host = url.hostname or provider.home
    said = [region for part, region in _REGIONS.items() if part in host.split(".")]
    said += ["USA"] if host == provider.home else []
    where = f" ({said[0]})" if said else ""
    return f", data to {host}{where}" if host else ""


def check_lab(settings: Settings) -> Iterator[Problem]:
    """Yield a problem if the lab's API cannot be reached or refuses the token."""
    if not settings.lab_api_token:
        remedy = "The lab refuses calls without it."
        yield wrong("LAB_API_TOKEN", "is not set.", remedy, warning=True)
        return
    lab = LabClient(HttpClient(deadline=5), settings.lab_api_url, settings.lab_api_token)
    kind = EVENTS["order.shipped"]
    try:
        lab.gather(kind, {kind.id_field: "relay-check"}, frozenset())
    except LabError as error:
        if not error.missing:  # nobody has this id: 404 is the right answer
            yield Problem(str(error), "lab", key="LAB_API_TOKEN", warning=not error.refused)
