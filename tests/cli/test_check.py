"""`flask relay check`: every problem with its line, before it can cost a message."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from relay.config.loader import SHIPPED
from tests.cli.conftest import OWN, Run
from tests.conftest import DATABASES, ROOT
from tests.standins import LabStandIn, ProviderStandIn
from tests.test_settings import KEY

pytestmark = pytest.mark.parametrize("ledger_url", DATABASES[:1], indirect=True)

# What is written, what an admin wrote instead, the key that is named, what would be right.
FAULTS = [
    ('phone = "020', 'fone = "020', "clinic.fone", "phone"),
    ("[delivery]", "[delivry]", "delivry", "delivery"),
    ('sms_from = "EXCLINIC"', 'sms_from = "TOOLONGANAME"', "delivery.sms_from", "11"),
    ('retention = "90d"', 'retention = "90 days"', "delivery.retention", "30d"),
    ("max_sms_segments = 2", 'max_sms_segments = "2"', "delivery.max_sms_segments", "number"),
    ('"lab-desk@example.org"', '"lab-desk"', "staff.lab-desk.email", "lab-desk"),
    ('event = "order.shipped"', 'event = "order.shiped"', "kit-shipped.event", "order.shipped"),
    ('to = "customer"', 'to = "custmer"', "kit-shipped.to", "customer"),
    ('channels = ["sms", "email"]', 'channels = ["fax"]', "kit-shipped.channels", "fax"),
    ("registration.status not in", "registration.stats not in", "results-ready.when", "status"),
    ('timezone = "Europe/London"', 'timezone = "London"', "clinic.timezone", "Europe/London"),
]
# By key: what a clinic might write to try Relay out, and forget.
LIKE_EXAMPLES = {
    "name": "Our Example",
    "phone": "01632 960 123 (Mon to Fri)",
    "portal": "https://clinic.test/results",
    "sms_from": "+447700900999",
    "email_from": "Us <us@example.com>",
}


def wrong(file: Path, old: str, new: str) -> str:
    """Put a mistake into a file, once; `file:line`, where it is."""
    lines = file.read_text("utf-8").splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if old in line and not line.startswith("#"))
    lines[at] = lines[at].replace(old, new)
    file.write_text("".join(lines), "utf-8")
    return f"{file}:{at + 1}"


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A copy of the templates, to be spoilt."""
    return shutil.copytree(ROOT / "templates", tmp_path / "templates")


def test_it_says_that_all_is_right(relay: Run, config_file: Path) -> None:
    """A right config on right connections gives exit code 0, how many rules, and what is so."""
    result = relay("check", TWILIO_FROM="+447700900200")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == f"{config_file} is right: 8 rules are on."


@pytest.mark.parametrize(("old", "new", "key", "remedy"), FAULTS, ids=[f[2] for f in FAULTS])
def test_a_mistake_is_told_with_its_line(
    relay: Run, config_file: Path, old: str, new: str, key: str, remedy: str
) -> None:
    """An error names the file, the line, the key and what would be right; exit code 1."""
    place = wrong(config_file, old, new)
    result = relay("check", "--offline")
    assert result.exit_code == 1
    told = [line for line in result.stderr.splitlines() if line.startswith(f"error: {place}: ")]
    assert len(told) == 1, result.stderr
    assert key in told[0]
    assert remedy in told[0].partition(new)[2] + told[0].partition(key)[2]


def test_every_mistake_is_told_at_once(relay: Run, config_file: Path) -> None:
    """Mistakes in several tables are all told in one run, by line."""
    places = [wrong(config_file, *fault[:2]) for fault in FAULTS if fault[1] != "[delivry]"]
    result = relay("check", "--offline")
    assert result.exit_code == 1
    assert all(f"error: {place}: " in result.stderr for place in places), result.stderr
    lines = [int(line) for line in re.findall(r"config.toml:(\d+)", result.stderr)]
    assert lines == sorted(lines)


BROKEN = [  # lines of config.toml, and what is said of them; nothing is said of the others
    ("[clinic]", ""),
    ("name = Example Clinic", "not valid TOML: text needs quotes"),
    ('phone = "020 7946 0000"', ""),
    ("[delivery", "not valid TOML: this heading is not closed"),
    ('retention = "90 days"', "delivery.retention: write a whole number"),
    ("daily_sms_limit = 2,000", "not valid TOML: a number has no comma"),
    ("sms_from\u00a0= \u201cCLINIC\u201d", "has a no-break space"),
    ("[staff.lab desk]", "not valid TOML: a name in a heading cannot have a space"),
    ('email = ["a@clinic.example" "b@clinic.example"]', "not valid TOML: there is no comma"),
    ("[rules.kit-shipped]", ""),
    ('event = "order.shipped"', ""),
    ('to = "lab desk"', ""),  # of which the addresses cannot be read
    ('channels = ["sms", "email"', ""),
    ('template = "kit_shipped"', "not valid TOML: this list is not closed"),
    ("[rules.kit-delivered]", ""),
    ('event = "order.delivered"', ""),
    ('to = "patient"', ""),
    ('channels = ["sms"]', ""),
    ('template = "kit_delivered"', ""),
    ("enabled = no", "not valid TOML: this is true or false"),
    ("[rules.retest]", ""),
    ('event = "test_registration.retst"', 'unknown value "test_registration.retst"'),
    ('to = "patient"', ""),
    ('channels = ["sms"]', ""),
    ('template = "retest"', ""),
    ("when = true", "rules.retest.when: must be text"),
]


def test_no_mistake_hides_another(relay: Run, tmp_path: Path, templates: Path) -> None:
    """TOML's, keys' and templates' are told in one run, each once and at its line: what a line that
    cannot be read takes with it is not told as well.
    """
    config = tmp_path / "broken.toml"
    config.write_text("\n".join(line for line, _ in BROKEN), "utf-8")
    (templates / "kit_delivered/sms.txt").write_text("\n{{ order.carier }}", "utf-8")
    (templates / "retest/sms.txt").write_text("{% if order %}", "utf-8")  # of a rule without event
    arguments = ("check", "--offline", "--config", str(config))
    result = relay(*arguments, RELAY_TEMPLATES=str(templates))
    told = result.stderr.splitlines()
    places = [f"{config}:{n}" for n, (_, said) in enumerate(BROKEN, 1) if said]
    places += [f"{templates}/kit_delivered/sms.txt:2", f"{templates}/retest/sms.txt:1"]
    assert [line.split(": ")[:2] for line in told] == [["error", place] for place in places]
    wanted = (said for _, said in BROKEN if said)
    assert [said for said, line in zip(wanted, told, strict=False) if said not in line] == []


def test_files_alone_are_judged_offline(relay: Run, own_config: Path) -> None:
    """`check --offline` needs no secret and no server, and says nothing of the environment."""
    bare = dict.fromkeys(("WEBHOOK_SECRET", "DATABASE_URL", "REDIS_URL", "LAB_API_TOKEN"), "")
    by = {**bare, "RELAY_ENV": "production", "LAB_API_URL": "nonsense", "LOG_LEVEL": "LOUD"}
    result = relay("check", "--offline", **by, RELAY_DELIVERY="live")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{own_config} is right: 8 rules are on.\n"
    assert relay("check", **by).exit_code == 1


def test_what_is_no_toml_is_told_with_its_line(relay: Run, config_file: Path) -> None:
    """A forgotten quote is told with its line."""
    place = wrong(config_file, 'retention = "90d"', "retention = 90d")
    result = relay("check", "--offline")
    assert result.exit_code == 1
    assert f"error: {place}: not valid TOML" in result.stderr


def test_another_file_can_be_named(relay: Run, config_file: Path, tmp_path: Path) -> None:
    """`--config F` checks F and not RELAY_CONFIG."""
    other = Path(shutil.copy(config_file, tmp_path / "other.toml"))
    place = wrong(other, "[clinic]", "[clinics]")
    assert relay("check", "--offline").exit_code == 0
    result = relay("check", "--offline", "--config", str(other))
    assert result.exit_code == 1
    assert place in result.stderr


def test_a_missing_file_is_told(relay: Run, tmp_path: Path) -> None:
    """A path that leads nowhere is told by its name."""
    result = relay("check", "--offline", "--config", str(tmp_path / "nowhere.toml"))
    assert result.exit_code == 1
    assert f"error: {tmp_path / 'nowhere.toml'}: Relay cannot read this file" in result.stderr


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("Hello\n{{ customer.frist_name }}", "sms.txt:2: "),
        ("Hello\n\n{% if order %}", "sms.txt:3: "),
        ("{{ results }}", "sms.txt:1: "),
    ],
)
def test_a_template_fault_is_told_with_its_line(
    relay: Run, templates: Path, written: str, told: str
) -> None:
    """An unknown name or broken syntax in a template is an error with file and line."""
    (templates / "kit_shipped/sms.txt").write_text(written, "utf-8")
    result = relay("check", "--offline", RELAY_TEMPLATES=str(templates))
    assert result.exit_code == 1
    assert f"error: {templates}/kit_shipped/{told}" in result.stderr


def test_a_missing_template_is_told(relay: Run, templates: Path) -> None:
    """A channel's missing file is an error that names it."""
    (templates / "retest/email.html").unlink()
    result = relay("check", "--offline", RELAY_TEMPLATES=str(templates))
    assert result.exit_code == 1
    assert "retest/email.html" in result.stderr


@pytest.mark.parametrize(
    ("file", "written", "told"),
    [
        (
            "words/held.txt",
            "{% block title %}A{% endblock %}\n{{ case.sujet }}",
            "words/held.txt:2: ",
        ),
        ("words/held.txt", "{% block title %}A\n{% block to_do %}", "words/held.txt:"),
        ("words/held.txt", "{% block title %}A{% endblock %}", "words/held.txt: "),
        ("words/held.txt", "", "words/held.txt: "),
        (
            "words/held.txt",
            "{% block title %}\n{{ case.subject }}{% endblock %}",
            "words/held.txt:2: ",
        ),
        ("words/missing.txt", None, "words/missing.txt: there is no such file"),
        ("sms.txt", "Relay:\n{{ patient.first_name }}", "sms.txt:2: "),
        ("sms.txt", "{{ case.title }} {{ case.link }}", "sms.txt:1: "),
        ("subject.txt", None, "subject.txt: there is no such file"),
        ("email.txt", "{{ case.title }}\n{{ case.hapened }}", "email.txt:2: "),
        ("email.html", "<p>\n{{ case.reason }}</p>", "email.html:2: "),
    ],
)
def test_a_fault_of_an_alert_is_told_with_its_line(
    relay: Run, templates: Path, file: str, written: str | None, told: str
) -> None:
    """Each kind of alert is tried on each channel: names that there are not, holes, missing files
    and missing words are errors with file and line, before staff need them.
    """
    (templates / "alerts" / file).unlink()
    if written is not None:
        (templates / "alerts" / file).write_text(written, "utf-8")
    result = relay("check", "--offline", RELAY_TEMPLATES=str(templates))
    assert result.exit_code == 1
    assert f"error: {templates}/alerts/{told}" in result.stderr


def test_a_folder_without_alerts_is_a_warning(relay: Run, templates: Path) -> None:
    """Templates of the release before still do: Relay starts, and says what is missing."""
    shutil.rmtree(templates / "alerts")
    result = relay("check", "--offline", RELAY_TEMPLATES=str(templates))
    assert result.exit_code == 0
    assert f"warning: {templates}/alerts: there is no such folder" in result.stderr


def test_a_dear_alert_is_a_warning(relay: Run, templates: Path) -> None:
    """An alert that is texted is judged like any other text."""
    words = "{% block title %}“Hm” ł eh{% endblock %}{% block happened %}A{% endblock %}"
    words += "{% block to_do %}B{% endblock %}"
    (templates / "alerts/words/held.txt").write_text(words, "utf-8")
    (templates / "alerts/sms.txt").write_text("{{ case.title * 9 }}" + "x" * 200, "utf-8")
    result = relay("check", "--offline", RELAY_TEMPLATES=str(templates))
    assert result.exit_code == 0
    assert f'warning: {templates}/alerts/words/held.txt:1: "ł" (U+0142)' in result.stderr
    assert "segments" in result.stderr


def test_a_hole_is_a_warning(relay: Run, templates: Path) -> None:
    """A null printed bare is warned of by its variable; a warning alone leaves exit code 0."""
    (templates / "kit_shipped/sms.txt").write_text("Hello {{ customer.first_name }}", "utf-8")
    result = relay("check", "--offline", RELAY_TEMPLATES=str(templates))
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")
    assert "customer.first_name" in result.stderr


@pytest.mark.parametrize(
    ("words", "told"), [("Grüße ł ok", '"ł" (U+0142)'), ("x" * 307, "3 segments")]
)
def test_a_dear_text_is_a_warning(relay: Run, templates: Path, words: str, told: str) -> None:
    """Letters outside the SMS alphabet and too many segments are warned of."""
    (templates / "kit_shipped/sms.txt").write_text(words, "utf-8")
    result = relay("check", "--offline", RELAY_TEMPLATES=str(templates))
    assert result.exit_code == 0
    assert f"warning: {templates}/kit_shipped/sms.txt:" in result.stderr
    assert told in result.stderr


def test_a_sender_that_cannot_be_answered_is_a_warning(relay: Run, config_file: Path) -> None:
    """To a name nobody can send STOP; to a number, a short code or a messaging service they can."""
    line = next(
        number
        for number, text in enumerate(config_file.read_text("utf-8").splitlines(), 1)
        if text.startswith("sms_from")
    )
    told = f"warning: {config_file}:{line}: delivery.sms_from: nobody can answer a name"
    for name in ("EXCLINIC", "CLINIC 2"):
        result = relay("check", TWILIO_FROM=name if name != "EXCLINIC" else "")
        assert result.exit_code == 0
        assert told in result.stderr
    for name, sender in (
        ("TWILIO_FROM", "+447700900200"),
        ("TWILIO_FROM", "60777"),
        ("TWILIO_MESSAGING_SERVICE_SID", "MG" + "0" * 32),
    ):
        assert relay("check", **{name: sender}).stderr == ""


@pytest.mark.parametrize(
    ("words", "is_told"),
    [
        ("Your kit is on its way.", True),
        ("Your kit is on its way. {% if order.carrier %}Call {{ clinic.phone }}.{% endif %}", True),
        ("Your kit is on its way. Reply STOP to stop.", True),  # to a name
        ("Your kit is on its way. Call (020) 7946-0000.", False),
        ("Your kit is on its way. Read {{ clinic.portal }}", False),
        ("Your kit is on its way. Write to us at stop@example.org", False),
    ],
)
def test_a_message_that_shows_no_way_to_object_is_a_warning(
    relay: Run, templates: Path, words: str, is_told: bool
) -> None:
    """Whoever gets it has to be able to say that they want no more, in every case."""
    (templates / "kit_shipped/sms.txt").write_text(words, "utf-8")
    result = relay("check", RELAY_TEMPLATES=str(templates))
    assert result.exit_code == 0
    told = f"warning: {templates}/kit_shipped/sms.txt: it shows no way to object"
    assert (told in result.stderr) == is_told
    if "STOP" in words:
        by_number = {"RELAY_TEMPLATES": str(templates), "TWILIO_FROM": "+447700900200"}
        assert relay("check", **by_number).stderr == ""


def test_staff_need_no_way_to_object(relay: Run, templates: Path) -> None:
    """What goes to staff is their work."""
    for file in (templates / "desk_retest").iterdir():
        if file.name != "email.html":
            file.write_text("A new sample is needed.", "utf-8")
    result = relay("check", RELAY_TEMPLATES=str(templates))
    assert "no way to object" not in result.stderr


@pytest.mark.parametrize(("last", "is_over"), [("2025-12-26", True), ("2999-12-25", False)])
def test_bank_holidays_that_are_over_are_a_warning(
    relay: Run, config_file: Path, last: str, is_over: bool
) -> None:
    """A list of bank holidays that has run out is told with its line, before the next one comes."""
    place = wrong(config_file, "[delivery]", f"[delivery]\nbank_holidays = [2025-12-25, {last}]")
    result = relay("check", "--offline")
    assert result.exit_code == 0
    line = f"{place.rpartition(':')[0]}:{int(place.rpartition(':')[2]) + 1}"
    assert (
        f"warning: {line}: delivery.bank_holidays: all of these dates have passed" in result.stderr
    ) == (is_over)


def test_a_secret_that_can_be_guessed_is_an_error(relay: Run) -> None:
    """In production a release is stopped by a short secret, before web and worker are."""
    by = {"RELAY_ENV": "production", "REDIS_URL": "redis://127.0.0.1:1"}
    result = relay("check", **by, METRICS_TOKEN="x" * 11)
    assert "error: environment: METRICS_TOKEN: has fewer than 12 characters" in result.stderr
    assert result.exit_code == 1


@pytest.mark.parametrize("key", SHIPPED, ids=".".join)
@pytest.mark.parametrize(
    ("written", "level", "said"),
    [(None, "error", "is what Relay came with"), ("example", "warning", "looks like an example")],
)
def test_a_live_relay_is_the_clinics_own(
    relay: Run,
    live_environ: dict[str, str],
    own_config: Path,
    key: tuple[str, str],
    written: str | None,
    level: str,
    said: str,
) -> None:
    """What patients would read of the example clinic is an error while delivery is live, and what
    looks like another example a warning, each with its line. It concerns no other delivery.
    """
    text = own_config.read_text("utf-8")
    own = next(o for s, o in OWN.items() if s == f'"{SHIPPED[key]}"')
    example = LIKE_EXAMPLES[key[1]] if written else SHIPPED[key]
    own_config.write_text(text.replace(own, f'"{example}"'), "utf-8")
    line = text[: text.index(own)].count("\n") + 1
    for arguments in (("check",), ("check", "--offline")):
        result = relay(*arguments, **live_environ)
        assert f'{level}: {own_config}:{line}: {".".join(key)}: "{example}" {said}' in result.stderr
        assert result.exit_code == (level == "error")
    assert said not in relay("check", **live_environ | {"RELAY_DELIVERY": "allow-list"}).stderr


def test_staff_who_are_an_example_hear_of_nothing(
    relay: Run, live_environ: dict[str, str], own_config: Path
) -> None:
    """An alert that goes to an example's address is warned of too; a clinic's own are not."""
    assert "looks like an example" not in relay("check", **live_environ).stderr
    text = own_config.read_text("utf-8")
    example = text.replace("lab-desk@harbour.clinic", "lab-desk@example.org")
    own_config.write_text(example, "utf-8")
    result = relay("check", **live_environ)
    assert 'staff.lab-desk.email: "lab-desk@example.org" looks like an example' in result.stderr
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PUBLIC_URL", "https://relay.example", "Relay cannot learn whether a text arrived"),
        ("SENDGRID_WEBHOOK_PUBLIC_KEY", KEY, "Relay cannot learn whether an email arrived"),
    ],
)
def test_what_is_missed_only_later_is_a_warning(
    relay: Run, live_environ: dict[str, str], name: str, value: str, told: str
) -> None:
    """A live Relay without receipts hears of it before it is missed."""
    without = relay("check", **live_environ)
    assert without.exit_code == 0
    assert f"warning: environment: {name}: is not set: {told}" in without.stderr
    assert name not in relay("check", **live_environ, **{name: value}).stderr
    assert name not in relay("check", **live_environ | {"RELAY_DELIVERY": "dry-run"}).stderr


def test_a_fallback_that_would_always_go_is_a_warning(
    relay: Run, live_environ: dict[str, str], config_file: Path
) -> None:
    """Where nobody reports what has arrived, `fallback_after` tells everybody twice."""
    text = config_file.read_text("utf-8").replace(
        'fallback = ["email"]', 'fallback = ["email"]\nfallback_after = "4h"', 1
    )
    config_file.write_text(text, "utf-8")
    line = text.splitlines().index('fallback_after = "4h"') + 1
    told = f"{config_file}:{line}: rules.kit-delivered.fallback_after: no receipts come"
    without = relay("check", **live_environ)
    assert (without.exit_code, f"warning: {told}" in without.stderr) == (0, True)
    url = {"PUBLIC_URL": "https://relay.example"}
    for by in ({**live_environ, **url}, {**live_environ, "RELAY_DELIVERY": "dry-run"}):
        assert told not in relay("check", **by).stderr


def test_a_public_url_with_a_path_is_a_warning(relay: Run) -> None:
    """A path is right only where a proxy takes it away: else no receipt finds its way."""
    result = relay("check", PUBLIC_URL="https://relay.example/webhooks/lab")
    assert result.exit_code == 0
    assert "warning: environment: PUBLIC_URL: has a path" in result.stderr


def test_environment_and_config_are_told_together(relay: Run, config_file: Path) -> None:
    """What is wrong in the environment does not hide what is wrong in config.toml."""
    place = wrong(config_file, 'phone = "020', 'fone = "020')
    result = relay(
        "check", RELAY_ENV="production", WEBHOOK_SECRET="", LOG_LEVEL="LOUD", RELAY_DELIVERY="lve"
    )
    assert result.exit_code == 1
    told = [place, "LOG_LEVEL", "RELAY_DELIVERY", '"live"', "WEBHOOK_SECRET", "REDIS_URL"]
    assert [word for word in told if word not in result.stderr] == [], result.stderr


@pytest.mark.parametrize("mode", ["live", "allow-list"])
@pytest.mark.usefixtures("own_config")
def test_delivery_that_goes_nowhere_is_a_warning(relay: Run, mode: str) -> None:
    """A mode that would send is warned of where credentials, or anybody to send to, are missing."""
    result = relay("check", RELAY_DELIVERY=mode)
    assert result.exit_code == 0
    for channel in ("sms", "email"):
        assert f"warning: environment: nothing goes out by {channel}" in result.stderr
    assert ("the list is empty" in result.stderr) == (mode == "allow-list")


def test_a_refused_lab_token_is_an_error(relay: Run) -> None:
    """The lab's API is tried, and a token it refuses is an error; offline it is not tried."""
    result = relay("check", LAB_API_TOKEN="another")
    assert result.exit_code == 1
    assert "error: lab: LAB_API_TOKEN: " in result.stderr
    assert "another" not in result.stderr
    assert relay("check", "--offline", LAB_API_TOKEN="another").exit_code == 0


def test_the_lab_is_asked_with_an_id_that_nobody_has(relay: Run, lab: LabStandIn) -> None:
    """Checking the token asks for nobody's data."""
    relay("check")
    assert lab.paths == ["/api/order/relay-check"]


def test_a_redis_that_refuses_is_an_error(relay: Run, tmp_path: Path) -> None:
    """A Redis out of reach is an error that names the variable and not the address."""
    result = relay("check", REDIS_URL=f"unix://{tmp_path}/none.sock")
    assert result.exit_code == 1
    assert "REDIS_URL: Relay cannot reach Redis" in result.stderr
    assert str(tmp_path / "none.sock") not in result.stderr


def test_a_new_ledger_passes(relay: Run, tmp_path: Path) -> None:
    """A release checks before it upgrades: tables that are not there yet are only a warning."""
    result = relay("check", DATABASE_URL=f"sqlite:///{tmp_path}/new.db")
    assert result.exit_code == 0
    assert "flask relay upgrade" in result.stderr


def test_a_ledger_out_of_reach_is_an_error(relay: Run) -> None:
    """A database out of reach is an error that shows no password."""
    url = "postgres://relay:pass-word@127.0.0.1:1/relay"
    result = relay("check", DATABASE_URL=url)
    assert result.exit_code == 1
    assert "DATABASE_URL" in result.stderr
    assert "pass-word" not in result.output


def test_nothing_is_sent(
    relay: Run,
    live_environ: dict[str, str],
    twilio: ProviderStandIn,
    sendgrid: ProviderStandIn,
) -> None:
    """Checking a live copy asks the providers, and sends nobody anything."""
    assert relay("check", **live_environ).exit_code == 0
    assert {one.method for one in (*twilio.requests, *sendgrid.requests)} == {"GET"}
    assert (twilio.accepted, sendgrid.accepted) == ([], [])
