"""Templates with something wrong in them: found at load, with file and line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from relay.config import check
from relay.config.check import load as start
from relay.config.loader import Config, load
from relay.config.settings import Settings
from relay.errors import ConfigError, Problem, RenderError
from relay.lab import samples
from relay.lab.events import RETEST
from relay.messages import sms_segments
from relay.messages.templates import Templates
from tests.conftest import ROOT

Break = Callable[..., Settings]
WORDS = "{{ clinic.name }}: your kit is on its way."


@pytest.fixture
def broken(tmp_path: Path) -> Break:
    """Settings whose templates are the default ones, but for the given files of kit_shipped."""

    def make(**files: str | None) -> Settings:
        folder = tmp_path / "templates"
        shutil.copytree(ROOT / "templates", folder, dirs_exist_ok=True)
        for name, text in files.items():
            path = folder / "kit_shipped" / name.replace("_", ".")
            path.unlink()
            if text is not None:
                path.write_text(text, "utf-8")
        return Settings(config=ROOT / "config.toml", templates=folder)

    return make


def problems(settings: Settings) -> list[Problem]:
    """All that `check` finds in the templates."""
    return check.templates(load(settings), Templates(settings.templates))


def kit_shipped(settings: Settings, name: str = "sms.txt") -> str:
    """Where a file of the broken template stands."""
    return str(settings.templates / "kit_shipped" / name)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("Hello\n{{ custmer.first_name }}", 2, 'unknown name "custmer". Did you mean "customer"?'),
        ("\n\n{{ order.tracking_nmber }}", 3, 'Did you mean "tracking_number"?'),
        ("{% if order.customer.frist_name %}x{% endif %}", 1, 'Did you mean "first_name"?'),
        ("{{ event.lab_id }}", 1, 'unknown name "event.lab_id"'),  # another event's
        ("{{ lab_results[0].value }}", 1, 'unknown name "lab_results"'),
        ("Hello\n{{ clinic.name }", 2, "unexpected '}'"),
        ("Hello\n{% if order.id %}\nx", 3, "endif"),
        ("Hello\n{{ clinic.name|uper }}", 2, 'unknown filter "uper". Did you mean "upper"?'),
        ("{% if order.id is eevn %}{% endif %}", 1, 'unknown test "eevn". Did you mean "even"?'),
        ("{% if false %}\n{{ order.id|uper }}{% endif %}", 2, 'unknown filter "uper"'),
        ("Hello\n{% nosuchtag %}", 2, "unknown tag 'nosuchtag'"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(
    broken: Break, text: str, line: int, said: str
) -> None:
    """What is wrong in a template stops the start, and is shown where it stands."""
    settings = broken(sms_txt=text)
    with pytest.raises(ConfigError) as caught:
        start(settings)
    (problem,) = caught.value.problems
    assert (problem.where, problem.line) == (kit_shipped(settings), line)
    assert said in str(problem)


@pytest.mark.parametrize("name", ["sms.txt", "subject.txt", "email.txt", "email.html"])
def test_a_missing_file_is_told(broken: Break, name: str) -> None:
    """Each file that a rule's channels need is missed by its name."""
    settings = broken(**{name.replace(".", "_"): None})
    assert problems(settings) == [Problem("there is no such file.", kit_shipped(settings, name))]


def test_a_missing_layout_is_told(broken: Break) -> None:
    """A file that a template extends is missed by its own name."""
    settings = broken(email_html='{% extends "layuot.html" %}')
    assert [str(problem) for problem in problems(settings)] == [
        f"{settings.templates}/layuot.html: there is no such file."
    ]


def test_a_mistake_in_a_shared_file_is_told_in_that_file(broken: Break) -> None:
    """A mistake in the layout is shown in the layout, once for all rules that share it."""
    settings = broken()
    layout = settings.templates / "layout.txt"
    layout.write_text(layout.read_text("utf-8") + "{{ clinc.name }}\n", "utf-8")
    (problem,) = problems(settings)
    assert (problem.where, problem.line) == (str(layout), len(layout.read_text().splitlines()))


def test_what_is_not_text_is_told(broken: Break) -> None:
    """A file in another encoding is refused by its name and line."""
    settings = broken()
    Path(kit_shipped(settings)).write_bytes("La\nClínica".encode("latin-1"))
    assert problems(settings) == [
        Problem("this is not UTF-8 text. Save the file as UTF-8.", kit_shipped(settings), 2)
    ]


def test_every_broken_file_is_told_at_once(broken: Break) -> None:
    """An admin sees the mistakes of all files in one go."""
    settings = broken(sms_txt="{{ a }}", subject_txt="{{ b }}", email_txt=None)
    assert [problem.where for problem in problems(settings)] == [
        kit_shipped(settings, name) for name in ("sms.txt", "subject.txt", "email.txt")
    ]


@pytest.fixture
def digest(tmp_path: Path) -> Callable[[str], Templates]:
    """Templates that have one, with the given text, for the texts of a digest."""

    def make(text: str) -> Templates:
        (tmp_path / "batch").mkdir()
        (tmp_path / "batch" / "sms.txt").write_text(text, "utf-8")
        return Templates(tmp_path)

    return make


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("\n{{ registration.id }}", 2, '"registration". Choose from: clinic, count, items, rec'),
        ("{{ count }}\n{{ recipient.rol }}", 2, '"recipient.rol". Did you mean "role"?'),
        ("{% for item in items %}\n{{ item.registratoin.id }}{% endfor %}", 2, '"registration"?'),
        ("{% for i in items[:9]|sort %}{{ i.registration.trf_cod }}{% endfor %}", 1, '"trf_code"?'),
        ("{% for i in items %}{{ i.event.tracking }}{% endfor %}", 1, '"i.event.tracking"'),
        ("{% for i in items %}{{ i.order.customer.nam }}{% endfor %}", 1, '"i.order.customer.nam"'),
    ],
)
def test_a_digests_mistake_is_told_with_its_line(
    digest: Callable[[str], Templates], text: str, line: int, said: str
) -> None:
    """What a digest, or an item of it, has not is an error at load, shown where it stands."""
    (fault,) = digest(text).faults("batch", ("sms",), RETEST, is_digest=True)
    assert (fault.file, fault.line) == ("batch/sms.txt", line)
    assert said in fault.message


def test_items_are_a_digests_only(digest: Callable[[str], Templates]) -> None:
    """A message about one event has no items, and a digest's items have what there is."""
    text = (
        "{% for i in items|reverse %}{{ i.registration.trf_code }}{{ i.clinic.name }}{% endfor %}"
    )
    words = digest(text)
    (fault,) = words.faults("batch", ("sms",), RETEST)
    assert 'unknown name "items"' in fault.message
    assert list(words.faults("batch", ("sms",), RETEST, is_digest=True)) == []


@pytest.mark.parametrize(
    ("text", "fetched"),
    [
        ("{% for item in items %}{{ item.order.id }}{% endfor %}", {"order"}),
        ("{{ items|map(attribute='patient.first_name')|join }}", {"patient"}),
        ("{% for i in items %}{{ i['customer'].id }}{{ i.event.name }}{% endfor %}", {"customer"}),
    ],
)
def test_what_a_digests_items_name_is_fetched(
    digest: Callable[[str], Templates], text: str, fetched: set[str]
) -> None:
    """What is read of any item has to be asked of the lab for each."""
    assert digest(text).roots("batch", ("sms",), is_digest=True) == fetched


@pytest.mark.parametrize(
    "text",
    [
        "{% for item in order.items %}{{ item.product_skew }}{% endfor %}",
        "{% for row in order.test_registrations %}{{ row.product[0].skew }}{% endfor %}",
        "{{ clinic.extra.hours }}",
        "{% if false %}x{% endif %}",
        "",
        " \n ",
        "{{ 1 / 0 }}",
        "{{ order.id + 1 }}",
    ],
)
def test_a_hole_is_an_error_at_load(broken: Break, text: str) -> None:
    """What has a hole or comes out empty with every field filled in stops the start."""
    settings = broken(sms_txt=text)
    with pytest.raises(ConfigError) as caught:
        start(settings)
    (problem,) = caught.value.problems
    assert "kit_shipped/sms.txt" in str(problem)
    assert problem.remedy == "It fails even with every field filled in."


@pytest.mark.parametrize(
    "name",
    [
        "order.tracking_number",
        "order.customer.last_name",
        "customer.first_name",
        "patient",
        "recipient.first_name",
        "registration.trf_code",
        "event.url",
    ],
)
def test_what_the_lab_may_leave_empty_is_a_warning_that_names_it(broken: Break, name: str) -> None:
    """A field printed bare, that the lab may leave empty, is warned of by its name at load."""
    settings = broken(sms_txt=f"{WORDS}\n{{{{ {name} }}}}")
    (problem,) = problems(settings)
    assert problem.warning
    line = WORDS.count("\n") + 2
    assert (problem.where, problem.line) == (kit_shipped(settings), line)
    assert " is empty" in problem.message
    assert name.partition(".")[0] in problem.message
    assert "{{ name or 'something else' }}" in problem.remedy
    start(settings)  # a warning does not stop the start


@pytest.mark.parametrize("printed", ["NAME or 'x'", "NAME|default('x')", "'x' if NAME is none"])
def test_a_hole_that_is_filled_is_no_warning(broken: Break, printed: str) -> None:
    """`or`, `default` and `is none` are the remedies that the warning means."""
    settings = broken(sms_txt=WORDS + "{{ " + printed.replace("NAME", "order.carrier") + " }}")
    assert problems(settings) == []


def test_a_hole_at_send_names_the_field_and_no_person(broken: Break) -> None:
    """At send a hole is an error that says which field it was, and no more."""
    settings = broken(sms_txt="{{ customer.first_name }} {{ order.carrier }}")
    config = load(settings)
    rule = config.by_name.get("kit-shipped")
    assert rule is not None
    facts = replace(samples.full("Zephyrine"), order=None)
    seen = check.example_names(config, rule, facts)
    with pytest.raises(RenderError, match=r"^kit_shipped/sms\.txt: order\.carrier is empty\.$"):
        Templates(settings.templates).render("kit_shipped", "sms", "", seen)


@pytest.mark.parametrize(
    "printed",
    [
        "{{ {'LML-THY-ADV': 'Thyroid'}[registration.product_skus[0]] }}",
        "{{ {'Jane': 1}[patient.first_name] }}",
        "{{ order.address[patient.first_name] }}",
        "{{ order[patient.first_name] }}",
        "{{ registration.foreign_id[patient.first_name] }}",
        "{{ order.items[0][patient.first_name].x }}",
        "{% include patient.first_name %}",
        "{{ order.items|map(patient.first_name)|list }}",
        "{{ order.items|map(attribute=patient.first_name)|join }}",
        "{{ order|attr('_' ~ patient.first_name) }}",
        "{{ '%d'|format(patient.first_name) }}",
        "{{ patient.first_name() }}",
        "{{ patient.first_name|int(order.nothing) / 0 }}",
    ],
)
def test_an_error_at_send_says_nothing_of_a_value(broken: Break, printed: str) -> None:
    """What was asked for by a value, a name or a test perhaps, stays out of the error's text: it
    goes into the log, the ledger and an alert.
    """
    settings = broken(sms_txt="Hello")
    (settings.templates / "kit_shipped" / "sms.txt").write_text(printed, "utf-8")
    config = load(settings)
    rule = config.by_name.get("kit-shipped")
    assert rule is not None
    facts = samples.full("Zephyrine")
    kit = {**(facts.registration or {}), "product_skus": ["Zephyrine"], "foreign_id": None}
    seen = check.example_names(config, rule, replace(facts, registration=kit))
    with pytest.raises(RenderError, match=r"^kit_shipped/sms\.txt: .+\.$") as caught:
        Templates(settings.templates).render("kit_shipped", "sms", "", seen)
    assert "Zephyrine" not in str(caught.value)
    assert (caught.value.file, caught.value.line) == ("kit_shipped/sms.txt", 1)


def test_a_dear_character_is_shown_where_it_stands(broken: Break) -> None:
    """The character that makes every text cost more is named, with its code, file and line."""
    settings = broken(sms_txt="Your kit is on its way.\nIt\u0142s yours.{% include 'greet.txt' %}")
    greeting = settings.templates / "greet.txt"
    greeting.write_text("\n\nBye \u0141 {{ clinic.name }}", "utf-8")
    dash, quote = sorted(problems(settings), key=lambda problem: problem.message)
    assert quote.warning
    assert dash.warning
    assert (quote.where, quote.line) == (kit_shipped(settings), 2)
    assert (dash.where, dash.line) == (str(greeting), 3)
    assert '"\u0142" (U+0142) is not in the SMS alphabet' in quote.message
    assert "Use a plain character." in quote.remedy


def test_a_dear_character_of_a_value_is_told_as_one(broken: Break) -> None:
    """A character that the template does not have is not looked for in it."""
    settings = broken(sms_txt="{{ clinic.name }}: '{{ '\\u0142' }}'")
    (problem,) = problems(settings)
    assert (problem.where, problem.line) == (kit_shipped(settings), None)
    assert "It comes from a value" in problem.remedy


def test_a_long_text_is_warned_of(broken: Break) -> None:
    """A text of more segments than max_sms_segments is told at load, and for whom it is."""
    settings = broken(sms_txt=WORDS + " word" * 80)
    (problem,) = problems(settings)
    assert problem.warning
    assert "takes 3 segments when the name is long." in problem.message
    assert "for every customer that kit-shipped texts" in problem.message
    assert "max_sms_segments is 2" in problem.remedy


def test_what_a_locked_screen_would_show_stops_the_start(broken: Break) -> None:
    """A text with a full name is an error at load, with its line."""
    settings = broken(
        sms_txt=WORDS + "\n{{ customer.first_name or '' }} {{ customer.last_name or '' }}"
    )
    with pytest.raises(ConfigError) as caught:
        start(settings)
    (problem,) = caught.value.problems
    assert (problem.where, problem.line) == (kit_shipped(settings), 2)
    assert "a full name" in problem.message


def test_a_mark_stands_before_the_words(config_path: Config) -> None:
    """A test message is marked as one in every part that a person reads."""
    rule = config_path.by_name.get("kit-shipped")
    assert rule is not None
    seen = check.example_names(config_path, rule, samples.full())
    words = Templates(ROOT / "templates")
    sms = words.render(rule.template, "sms", "", seen, mark="TEST ")
    email = words.render(rule.template, "email", "", seen, mark="TEST <1> ")
    assert sms.text.startswith("TEST ")
    assert email.subject.startswith("TEST <1> ")
    assert email.text.startswith("TEST <1> ")
    assert "TEST &lt;1&gt; " in email.html


@pytest.fixture
def config_path() -> Config:
    """The default configuration."""
    return load(Settings(config=ROOT / "config.toml", templates=ROOT / "templates"))


# What word processors and web pages leave in a file, and what `check` calls it. A report is a line.
HIDDEN = {
    "\u200b": "zero width space (U+200B)",
    "\u00a0": "no-break space (U+00A0)",
    "\u202f": "narrow no-break space (U+202F)",
    "\u00ad": "soft hyphen (U+00AD)",
    "\u200d": "zero width joiner (U+200D)",
    "\u2060": "word joiner (U+2060)",
    "\x92": "control character (U+0092)",
}


@pytest.mark.parametrize("char", HIDDEN)
def test_a_hidden_character_is_named_with_its_place(broken: Break, char: str) -> None:
    """What nobody sees is found by its line and column; in a text it does not go out."""
    settings = broken(sms_txt=f"Hello,\nyour kit{char}is on its way.")
    (problem,) = problems(settings)
    assert problem.warning
    assert (problem.where, problem.line) == (kit_shipped(settings), 2)
    assert problem.message == f"column 9 has an invisible character: {HIDDEN[char]}."
    sent = Templates(settings.templates).render("kit_shipped", "sms", "", {}).text
    assert sms_segments.size(sent).alphabet == "GSM-7"


def test_a_hidden_character_in_an_alert_is_named(broken: Break) -> None:
    """Alerts' words are looked at too, and the files that they share."""
    settings = broken()
    path = settings.templates / "alerts/words/held.txt"
    path.write_text(
        path.read_text("utf-8").replace("block title %}", "block title %}\u200b"), "utf-8"
    )
    (problem,) = problems(settings)
    assert problem.where == str(path)
    assert "U+200B" in problem.message


def test_a_hidden_character_in_a_command_is_named(broken: Break) -> None:
    """Jinja cannot read it; the error says what it is instead of its escape."""
    settings = broken(sms_txt="{{ clinic.name\u200b }}")
    (problem,) = problems(settings)
    assert "there is a zero width space (U+200B) in a command." in problem.message
    settings = broken(sms_txt="{{ customer.first_name or ‘you’ }}")
    (problem,) = problems(settings)
    assert "there is a left single quotation mark (U+2018) in a command." in problem.message


@pytest.mark.parametrize("name", ["sms.txt", "subject.txt", "email.txt", "email.html"])
def test_a_byte_order_mark_is_no_character(broken: Break, name: str) -> None:
    """Windows' editors begin a file with one: it is read without it, and nothing is said."""
    settings = broken()
    path = settings.templates / "kit_shipped" / name
    plain = path.read_text("utf-8")
    before = Templates(settings.templates).source(f"kit_shipped/{name}")
    path.write_text(plain, "utf-8-sig")
    assert path.read_bytes()[:3] == b"\xef\xbb\xbf"
    assert Templates(settings.templates).source(f"kit_shipped/{name}") == before
    assert problems(settings) == []


def test_typographic_characters_cost_nothing(broken: Break) -> None:
    """A template with curly quotes is sent in plain ones: no warning, and one segment."""
    settings = broken(sms_txt="It’s “on its way” – register it first… {{ clinic.short_name }}")
    assert problems(settings) == []
    config = load(settings)
    seen = {"clinic": config.clinic.record()}
    sent = Templates(settings.templates).render("kit_shipped", "sms", "", seen).text
    assert sent == 'It\'s "on its way" - register it first... Example Clinic'


def test_texts_have_a_shorter_name_of_the_clinic(broken: Break) -> None:
    """`clinic.short_name` is for texts; emails say the whole name, and without one so do texts."""
    clinic = load(broken()).clinic
    assert clinic.record().short_name == "Example Clinic"
    record = replace(clinic, short_name="Example").record()
    assert (record.name, record.short_name) == ("Example Clinic", "Example")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (WORDS, ""),
        (None, "there is no such file"),
        (f"{WORDS} {{{{ custmer.id }}}}", 'unknown name "custmer"'),
        (f"{WORDS} {{{{ order.items[0].product_sku or '' }}}}", "it may show what is tested"),
        (f"{WORDS} {{{{ customer.last_name }}}}", "The lab may leave this empty"),
        (WORDS * 9, "segments when the name is long"),
        (f"{WORDS} \N{LATIN SMALL LETTER W WITH CIRCUMFLEX}", "is not in the SMS alphabet"),
    ],
)
def test_another_language_is_judged_as_the_main_one_is(
    broken: Break, tmp_path: Path, words: str | None, said: str
) -> None:
    """A language's folder has to be whole, discreet, short, and right with the fewest facts."""
    settings = broken()
    folder = settings.templates / "kit_shipped"
    shutil.copytree(folder, folder / "cy")
    (folder / "cy" / "sms.txt").unlink()
    if words:
        (folder / "cy" / "sms.txt").write_text(words, "utf-8")
    shipped = 'template = "kit_shipped"'
    text = (ROOT / "config.toml").read_text("utf-8")
    config = tmp_path / "config.toml"
    config.write_text(text.replace(shipped, f"{shipped}\nlanguage = \"'cy'\""), "utf-8")
    found = problems(replace(settings, config=config))
    assert {one.where for one in found} == ({str(folder / "cy" / "sms.txt")} if said else set())
    assert said in " ".join(f"{one.message} {one.remedy}" for one in found)
    shutil.rmtree(folder / "cy")
    (lacking,) = problems(replace(settings, config=config))
    assert (lacking.key, lacking.warning) == ("rules.kit-shipped.language", False)
