"""What the lab may say of a kit: any field null, missing, or not what was promised."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from relay.lab.facts import RESOURCES, SHAPES, Facts, clean_text, resource
from relay.rules.expressions import environment

ORDER = {
    "id": "o1",
    "carrier": None,
    "customer": {"id": "c1", "first_name": "Jane"},
    "items": [{"product_id": "p1", "product_sku": "SKU-1", "quantity": 2}],
    "address": {"line_1": "1 Example Street", "line_2": None},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=12,
)


def render(source: str, **facts: Any) -> str:
    """`source` as a template, with these facts."""
    made = {name: resource(value, name) for name, value in facts.items()}
    return environment().from_string(source).render(Facts(**made).namespace())


@pytest.mark.parametrize("name", RESOURCES)
@pytest.mark.parametrize("value", [None, [], "text", 7, True])
def test_what_is_no_object_is_no_resource(name: str, value: Any) -> None:
    """An answer that is not an object holds no facts."""
    assert resource(value, name) is None


@pytest.mark.parametrize("name", RESOURCES)
def test_every_documented_field_is_there(name: str) -> None:
    """A field that the lab left out is there and empty, so that no template breaks on it."""
    assert resource({"undocumented": 1}, name) == dict.fromkeys(SHAPES[name])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("carrier", {"name": "royal_mail"}),
        ("carrier", float("nan")),
        ("carrier", float("inf")),
        ("carrier", ""),
        ("carrier", " \t "),
        ("customer", "Jane"),
        ("customer", [{"first_name": "Jane"}]),
        ("items", {"product_sku": "SKU-1"}),
        ("items", "SKU-1"),
        ("address", ["1 Example Street"]),
    ],
)
def test_field_of_another_shape_is_empty(field: str, value: Any) -> None:
    """A field that is not what the documentation says counts as empty, never as an error."""
    made = resource({field: value}, "order")
    assert made is not None
    assert made[field] is None


def test_rows_of_another_shape_are_left_out() -> None:
    """A list keeps the rows that are objects, so that whoever reads it meets nothing else."""
    made = resource({"items": [None, "SKU-0", [], 7, {"product_sku": "SKU-1"}]}, "order")
    assert made is not None
    assert made["items"] == [{"product_id": None, "product_sku": "SKU-1", "quantity": None}]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("Jane", "Jane"),
        ("  Mary   Ann ", "Mary Ann"),
        ("Jane\r\nBcc: all@example.com", "Jane Bcc: all@example.com"),
        ("Ja\0ne", "Jane"),
        ("\u202eenaJ", "enaJ"),
        ("\u2066Jane\u2069", "Jane"),
        ("\ufeffJane\u200f", "Jane"),
        ("Jane\u2028Smith", "Jane Smith"),
        ("\x1b[31mJane", "[31mJane"),
        ("Ja\u200bne", "Jane"),
        ("Ja\u00adne", "Jane"),
        ("Jane\u200d", "Jane"),
        ("Ja\u034fne\ufe0f", "Jane"),
        ("Jane\u3164", "Jane"),
        ("Jane\u00a0Smith\u3000\t", "Jane Smith"),
        ("Rene\u0301e", "Renée"),
        ("Re\u200bne\u200b\u0301e", "Renée"),
        ("O\x92Brien", "O’Brien"),  # Windows' apostrophe, read as Latin-1
        ("می\u200cخواهم", "می\u200cخواهم"),  # a joiner that a script spells with
        ("❤\ufe0f", "❤\ufe0f"),
        ("Zoë 😀 李 عمر O'Brien", "Zoë 😀 李 عمر O'Brien"),
        ("\ud800", None),
        ("\u200b", None),
        ("a" * 1001, "a" * 1000),
    ],
)
def test_text_loses_control_and_bidi_characters(written: str, kept: str | None) -> None:
    """A name keeps its letters, and nothing that breaks lines, headers or reading order."""
    assert clean_text(written) == kept


@given(value=st.dictionaries(st.sampled_from(sorted(SHAPES["order"])), JSON))
def test_whatever_the_lab_sends_can_be_kept(value: dict[str, Any]) -> None:
    """Facts are always strict JSON of clean text that a ledger takes and gives back."""
    facts = Facts(order=resource(value, "order"))
    told = json.dumps(facts.to_json(), allow_nan=False, ensure_ascii=False)
    assert not [char for char in told if unicodedata.category(char) in ("Cc", "Cf", "Cs")]
    assert Facts.from_json(json.loads(told)) == facts


@pytest.mark.parametrize("name", ["order.items", "order['items']"])
def test_items_is_the_field(name: str) -> None:
    """`order.items` is what was ordered, not a method of a dictionary."""
    source = "{% for item in " + name + " %}{{ item.quantity }} {{ item.product_sku }}{% endfor %}"
    assert render(source, order=ORDER) == "2 SKU-1"


@pytest.mark.parametrize("key", ["keys", "values", "get", "items", "line_1"])
def test_address_of_any_keys_has_only_keys(key: str) -> None:
    """An object of any keys gives what the lab wrote under a key, even one that Python knows."""
    order = {"address": {key: "found"}}
    assert render("{{ order.address." + key + " }}", order=order) == "found"
    assert render("{{ order.address.keys or 'none' }}", order={"address": {"a": "b"}}) == "none"


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("order.carrier", "order.carrier"),
        ("order['carrier']", "order.carrier"),
        ("order.customer.last_name", "order.customer.last_name"),
        ("order.address.line_2", "order.address.line_2"),
        ("order.address.line_3", "order.address.line_3"),
        ("order.test_registrations", "order.test_registrations"),
        ("patient", "patient"),
        ("patient.first_name", "patient.first_name"),
    ],
)
@pytest.mark.parametrize(
    "printed",
    ["{}", "{}|upper", "{}|trim", "{} ~ 'x'", "{}|truncate(4)", "'%s'|format({})", "{}|e"],
)
def test_printing_an_empty_field_is_an_error_that_names_it(
    name: str, named: str, printed: str
) -> None:
    """A hole never goes out as an empty space: it stops the message and says which field it is."""
    with pytest.raises(UndefinedError, match=rf"{named} is empty"):
        render("{{ " + printed.format(name) + " }}", order=ORDER)


@pytest.mark.parametrize("name", ["order.carrier", "order.customer.email", "patient.first_name"])
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ NAME or 'there' }}", "there"),
        ("{{ NAME|default('there') }}", "there"),
        ("{{ NAME|d('there', true) }}", "there"),
        ("{{ 'empty' if NAME is none else NAME }}", "empty"),
        ("{{ 'empty' if NAME == none else NAME }}", "empty"),
        ("{{ 'full' if NAME is not none }}", ""),
        ("{{ NAME is defined }}", "False"),
        ("{% if NAME %}full{% else %}empty{% endif %}", "empty"),
        ("{% for part in NAME %}x{% else %}none{% endfor %}", "none"),
        ("{{ NAME == 'royal_mail' }} {{ NAME != 'royal_mail' }}", "False True"),
        ("{{ NAME in ['royal_mail'] }} {{ 'x' in NAME }}", "False False"),
        ("{{ NAME|length }}", "0"),
    ],
)
def test_empty_field_can_be_asked_about(name: str, source: str, expected: str) -> None:
    """An empty field is false, none and without items, and `or` and `default` fill it."""
    assert render(source.replace("NAME", name), order=ORDER) == expected


@pytest.mark.parametrize("value", ["royal_mail", 0, False])
def test_a_value_is_printed_as_it_is(value: Any) -> None:
    """Zero and false are values, not holes."""
    assert render("{{ order.carrier }}", order={"carrier": value}) == str(value)


def test_unknown_field_is_not_an_empty_one() -> None:
    """A name that the lab does not document is an error even where an empty one would do."""
    with pytest.raises(UndefinedError, match="tracking_nmber"):
        render("{{ order.tracking_nmber or 'x' }}{{ order.tracking_nmber }}", order=ORDER)


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("phone_number", 7700900123, "7700900123"),
        ("phone_number", 7700900123.0, "7700900123"),
        ("id", 10045, "10045"),
        ("foreign_id", "10045\n", "10045"),
        ("first_name", True, True),
    ],
)
def test_a_number_is_kept_as_its_digits(field: str, value: Any, kept: Any) -> None:
    """The lab's PHP writes ids and phone numbers as numbers: a condition sees one form."""
    assert (resource({field: value}, "customer") or {})[field] == kept


def test_a_quantity_stays_a_number() -> None:
    """What is counted is compared as a number."""
    made = resource({"items": [{"quantity": 2, "product_id": 7}]}, "order") or {}
    assert (made["items"][0]["quantity"], made["items"][0]["product_id"]) == (2, "7")
