"""Names in conditions and templates: the unknown ones are found, the others are not flagged."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from jinja2 import TemplateError

from relay.errors import RenderError, did_you_mean
from relay.lab import samples
from relay.lab.events import EVENTS
from relay.lab.facts import SHAPES, Facts, record, resource
from relay.rules.expressions import (
    Condition,
    environment,
    names,
    recipient,
    unknown_names,
    vocabulary,
)

SHIPPED = "order.shipped"
RECEIVED = "test_registration.sample_received"
CLINIC = record("clinic", {"name": "Example Clinic", "timezone": ZoneInfo("Europe/London")})


def found(source: str, event: str = SHIPPED) -> list[tuple[int, str]]:
    """What is wrong with the names of a template."""
    return list(unknown_names(environment().parse(source), vocabulary(event)))


def seen(event: str = SHIPPED, facts: Facts | None = None) -> dict[str, Any]:
    """What a rule sees of an event's example."""
    data = samples.webhook(event)["data"]
    told = names(event, data, samples.RECEIVED_AT, facts or samples.full(), CLINIC)
    return {**told, "recipient": recipient("customer", facts or samples.full())}


UNKNOWN = [
    ("ordr.carrier", 'unknown name "ordr". Did you mean "order"?'),
    ("order.carier", 'unknown name "order.carier". Did you mean "carrier"?'),
    ("order['carier']", 'unknown name "order.carier". Did you mean "carrier"?'),
    ("order.customer.frist_name", 'unknown name "order.customer.frist_name". Did you mean "first'),
    ("order.customer.address.city", 'unknown name "order.customer.address".'),
    ("order.items[0].product_skew", 'unknown name "order.items.0.product_skew". Did you mean "p'),
    ("event.lab_id", 'unknown name "event.lab_id".'),
    ("clinic.fone", 'unknown name "clinic.fone". Did you mean "phone"?'),
    ("recipient.date_of_birth", 'unknown name "recipient.date_of_birth".'),
    ("lab_results", 'unknown name "lab_results".'),
    ("registration.results", 'unknown name "registration.results". Did you mean "results_ready"?'),
    ("order._fields", 'unknown name "order._fields".'),
    ("nothing_like_it", "Choose from: clinic, customer, event, order, patient, recipient, regist"),
]


@pytest.mark.parametrize(("name", "told"), UNKNOWN)
def test_unknown_name_in_a_condition_is_refused(name: str, told: str) -> None:
    """A condition with a name that there is not is refused at load, with the nearest there is."""
    with pytest.raises(ValueError, match="unknown name") as caught:
        Condition(f"{name} == 'x'", SHIPPED)
    assert told in str(caught.value)


@pytest.mark.parametrize(("name", "told"), UNKNOWN)
def test_unknown_name_in_a_template_is_told_with_its_line(name: str, told: str) -> None:
    """A template with a name that there is not is told with the line it stands on."""
    ((line, message),) = found("Hello\n{% if true %}\n{{ " + name + " }}\n{% endif %}")
    assert line == 3
    assert told in message


def test_every_unknown_name_is_told_at_once() -> None:
    """An admin sees all the wrong names of a template, in one go."""
    lines = [line for line, _ in found("{{ ordr.id }}\n{{ order.carier }}\n{{ custmer.id }}")]
    assert sorted(lines) == [1, 2, 3]


@pytest.mark.parametrize(
    "source",
    [
        "{% set kit = order.carrier %}{{ kit }}{% block body %}{{ kit }}{% endblock %}",
        "{% set a, b = 1, 2 %}{% block body %}{{ a }}{{ b }}{% endblock %}",
        "{% set kit %}a kit{% endset %}{{ kit }}{% block body %}{{ kit }}{% endblock %}",
        "{% for item in order.items %}{{ loop.index }} {{ item.quantity }}{% endfor %}",
        "{% for key, value in order.address|items %}{{ key }} {{ value }}{% endfor %}",
        "{% macro line(name, value='') %}{{ name }}{{ value }}{% endmacro %}{{ line('a') }}",
        "{% macro box() %}{{ caller() }}{% endmacro %}{% call box() %}x{% endcall %}",
        "{% from 'parts.html' import button, phone as call %}{{ button() }}{{ call() }}",
        "{% import 'parts.html' as parts %}{{ parts.button() }}",
        "{% extends 'layout.html' %}{% block body %}{{ super() }}{{ self.title() }}{% endblock %}",
        "{% with kit = order.carrier %}{{ kit }}{% endwith %}",
        "{% filter upper %}{{ order.carrier }}{% endfilter %}",
        "{{ range(3)|join }} {{ namespace(a=1).a }}",
        "{{ order.address.postcode }} {{ clinic.extra.hours }}",
        "{{ order.carrier.upper() }} {{ event.received_at.strftime('%d %B') }}",
        "{{ order.items[0].product_sku }} {{ order.test_registrations[0].product[0].sku }}",
        "{{ order.items|length }} {{ order.items|map(attribute='quantity')|sum }}",
    ],
)
def test_names_of_a_templates_own_are_not_flagged(source: str) -> None:
    """Variables, loops, macros, imports and what a value can do are not unknown names."""
    assert found(source) == []


@pytest.mark.parametrize("event", EVENTS)
def test_every_name_of_the_vocabulary_is_there(event: str) -> None:
    """What the check takes for known is there when the template is rendered."""
    told = seen(event)
    for root, fields in vocabulary(event).items():
        for field in fields - ({*SHAPES["clinic"]} if root == "clinic" else set()):
            assert hasattr(told[root], field), f"{root}.{field}"


def test_results_are_in_no_vocabulary() -> None:
    """No rule and no template can name a result."""
    for event in EVENTS:
        words = {word for fields in vocabulary(event).values() for word in fields}
        assert not words & {"results", "lab_results", "value", "values", "biomarkers", "comment"}


@pytest.mark.parametrize(
    "source",
    [
        "",
        "order.carrier ==",
        "order.carrier = 'x'",
        "{{ order.id }}",
        "'a' }} {{ 'b'",
        "%}",
        "order.id) == (order.id",
        "order.carrier|nosuchfilter",
        "order.carrier is nosuchtest",
        "{{",
    ],
)
def test_what_is_not_one_expression_is_refused(source: str) -> None:
    """`when` is one expression; anything else is refused at load."""
    with pytest.raises(ValueError, match="not a valid condition"):
        Condition(source, SHIPPED)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("('a'*(10**9))", "cannot use *"),
        ("10**10**10 > 1", "cannot use **"),
        ("'%1000000000d' % 1 == order.carrier", "cannot use %"),
        ("'%1000000000d'|format(1)", 'cannot use the filter "format"'),
        ("'a'|center(1000000000)", 'cannot use the filter "center"'),
        ("['a']|map('center', 1000000000)|list", 'cannot use the filter "center"'),
        ("order.items|map(order.carrier)|list", 'the filter "that a value names"'),
        ("'a'.ljust(1000000000)", "cannot use ljust()"),
        ("'{:1000000000}'.format(1)", "cannot use format()"),
        ("'aa'.replace('a', 'aaaaaaaaaaaaaaaa')", "cannot use replace()"),
        ("range(100000)|list", "cannot use a function()"),
        ("lipsum(n=100000)", "cannot use a function()"),
        ("([['\\\\'] ~ ''] ~ '')", "a ~ within another"),
        ("order" + "|lower" * 41, "more than 40 dots and filters"),
        ("order.id == '" + "a" * 1_000 + "'", "at most 1,000 characters"),
        ("(" * 300 + "order.id" + ")" * 300, "too many brackets"),
        ("1" + "+1" * 450, "too many brackets"),
        ("-" * 900 + "1", "too many brackets"),
    ],
)
def test_a_condition_makes_nothing(source: str, told: str) -> None:
    """A condition that could make more of a value than there is of it is refused before anything
    of it is worked out: it is pasted by whoever has the desk.
    """
    with pytest.raises(ValueError, match=re.escape(told)):
        Condition(source, SHIPPED)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("order.carrier|lower|trim == 'royal_mail'", True),
        ("order.tracking_number.startswith('X') or order.id|length > 100", False),
        ("order.items|map(attribute='quantity')|sum == 1", True),
        ("event.received_at.strftime('%Y') == '1999'", False),
        ("(order.customer.last_name or '') ~ ' ' ~ order.carrier == 'x'", False),
        ("registration.status != 'cancelled'", True),
        ("order.carrier == 'royal_mail' and order.items|length == 1", True),
        ("order.customer.first_name", True),
        ("order.items[0].quantity > 1", False),
        ("'LML-THY-ADV' in registration.product_skus", True),
        ("event.name == 'order.shipped'", True),
        ("recipient.role == 'customer'", True),
        ("'}}' ~ '{#' == order.carrier", False),
        ("not registration.results_ready", True),
    ],
)
def test_condition_holds_of_facts(source: str, expected: bool) -> None:
    """A condition is decided by the facts that were fetched."""
    facts = samples.full()
    facts = Facts(**{**vars(facts), "registration": {**facts.registration, "results_ready": False}})
    assert Condition(source, SHIPPED).holds(seen(facts=facts)) is expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("registration.status != 'cancelled'", True),
        ("order.carrier == 'royal_mail'", False),
        ("order.customer.first_name", False),
        ("order.carrier is none", True),
        ("order.items", False),
        ("'LML-THY-ADV' in registration.product_skus", False),
    ],
)
def test_an_empty_field_is_false_in_a_condition(source: str, expected: bool) -> None:
    """A field that the lab left empty is a plain "no", not a failure."""
    facts = Facts(order=resource({}, "order"))
    assert Condition(source, SHIPPED).holds(seen(facts=facts)) is expected


@pytest.mark.parametrize("source", ["order.items[0].quantity > 1", "order.carrier < 3", "1 / 0"])
def test_condition_that_cannot_be_told_is_an_error_of_ours(source: str) -> None:
    """A condition that breaks on the facts is neither true nor false, and quotes no fact."""
    facts = Facts(order=resource({"carrier": "Jane"}, "order"))
    with pytest.raises(RenderError) as caught:
        Condition(source, SHIPPED).holds(seen(facts=facts))
    assert source in str(caught.value)
    assert "Jane" not in str(caught.value)


ESCAPES = [
    "''.__class__.__mro__[1].__subclasses__()",
    "''['__cla' ~ 'ss__']",
    "order['_fi' ~ 'elds']",
    "order|attr('_fields')",
    "order.carrier|attr('__class__')",
    "patient.first_name.__class__",
    "'{0.__class__}'.format(order)",
    "'{0._fields}'.format(order)",
    "range.__globals__",
    "cycler.__init__.__globals__.os",
    "namespace.__class__",
    "range(10 ** 9)|list",
    "[].append(1)",
    "event.received_at.__reduce__()",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_sandbox_refuses_to_print_its_inside(source: str) -> None:
    """A template gets at nothing but the facts."""
    with pytest.raises((TemplateError, OverflowError)):
        environment().from_string("{{ " + source + " }}").render(seen())


@pytest.mark.parametrize("source", ESCAPES)
def test_sandbox_refuses_to_decide_by_its_inside(source: str) -> None:
    """A condition gets at nothing but the facts, by load or when it is asked."""
    with pytest.raises((ValueError, RenderError)):
        Condition(source, SHIPPED).holds(seen())


def test_times_are_the_clinics() -> None:
    """An event's times are told in the clinic's time zone."""
    told = seen(RECEIVED)["event"]
    assert told.received_at == datetime(2026, 6, 1, 13, 52, 32, tzinfo=UTC)
    assert told.received_at.utcoffset() == timedelta(hours=1)
    assert told.sample_received_at.strftime("%d %B %H:%M") == "01 June 14:52"


def test_recipient_of_a_staff_group_has_no_persons_details() -> None:
    """Of a staff group only its name is known, and it has no patient's."""
    told = recipient("lab-desk", samples.full())
    assert told.role == "lab-desk"
    assert not told.first_name
    assert not told.email


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("custmer", 'Did you mean "customer"?'),
        ("zzz", "Choose from: customer, patient."),
    ],
)
def test_remedy_is_the_nearest_word_or_all(word: str, remedy: str) -> None:
    """A wrong word is answered with the nearest right one, else with all of them."""
    assert did_you_mean(word, ["patient", "customer"]) == remedy
