"""The lab API's facts about a kit: the fields that rules and templates can use, and the names of
people in them.

The shapes are those in the lab's documentation; any field may be null or missing. A field that the
lab left empty is a `Null`: false in a condition, and an error when printed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import ChainableUndefined, UndefinedError

from relay.lab import plain_text
from relay.lab.plain_text import fold

LONGEST_TEXT = 1000
MOST_WORDS = 6  # of a name to search for: each may begin the surname
LONGEST_KEY = 200
TITLES = frozenset({"dr", "miss", "mr", "mrs", "ms", "mx", "prof"})
# The lab's names for the fields with a person's addresses.
EMAIL, PHONE, MOBILE = "email", "phone_number", "mobile_phone_number"
NAMES = ("first_name", "last_name")
BORN = "date_of_birth"
_COUNTED = frozenset({"quantity"})  # the fields in which a number is really a number


def _texts(names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), "")


# A resource's fields. The value is the shape of their content: "" for text, numbers and lists of
# them, a shape's name for an object, "name*" for a list of objects, "?" for an object of any keys.
SHAPES: dict[str, dict[str, str]] = {
    "order": {
        **_texts("id customer_id shipping_date shipping_status carrier tracking_number"),
        **_texts("order_number"),
        "customer": "customer",
        "address": "?",
        "items": "item*",
        "test_registrations": "ordered_registration*",
    },
    "registration": {
        **_texts(f"id first_name last_name {EMAIL} {MOBILE} {BORN} patient_id trf_code short_code"),
        **_texts("status results_ready product_skus foreign_id parent_id download_url lab_id"),
        **_texts("created_at completed_at"),
    },
    "customer": _texts(f"id first_name last_name {EMAIL} {PHONE} foreign_id"),
    "patient": _texts(f"id first_name last_name {EMAIL} {PHONE} {BORN} foreign_id"),
    "item": _texts("product_id product_sku quantity"),
    "ordered_registration": {**_texts("id trf_code"), "product": "product*"},
    "product": _texts("id sku"),
    "clinic": {
        **_texts("name short_name phone portal timezone logo accent accent_in_dark"),
        "extra": "?",
    },
}
# Few messages need these fields, and nobody should keep them unasked: they stay out of the ledger
# unless a rule's `when` or template reads them.
SENSITIVE: dict[str, tuple[str, ...]] = {
    "order": ("address",),
    "registration": (BORN, "download_url"),
    "patient": (BORN,),
}
RESOURCES = ("order", "registration", "customer", "patient")
PERSONS = ("customer", "patient")
RECIPIENT_FIELDS = ("role", *NAMES, EMAIL, PHONE)


class Empty(UndefinedError):
    """An empty field was printed. `path` is how it was reached, perhaps through another value."""

    def __init__(self, path: str):
        super().__init__(f"{path} is empty")
        self.path = path


class Null(ChainableUndefined):
    """An empty field: false, iterates as nothing, equals None, and cannot be printed."""

    __slots__ = ()

    def __str__(self) -> str:
        raise Empty(str(self._undefined_name))

    def __getattr__(self, name: str) -> Null:
        if name.startswith("_"):
            raise AttributeError(name)
        return Null(name=f"{self._undefined_name}.{name}")

    def __getitem__(self, key: Any) -> Null:  # type: ignore[override]
        return Null(name=f"{self._undefined_name}.{key}")

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, Null)

    __hash__ = ChainableUndefined.__hash__


class Record:
    """A resource as a template sees it: `order.items` is the field, never a method."""

    __slots__ = ("_fields", "_name", "_open")

    def __init__(self, name: str, fields: Mapping[str, Any], *, is_open: bool = False):
        self._name = name
        self._fields = fields
        self._open = is_open

    def __getattr__(self, key: str) -> Any:
        try:
            value = self._fields[key]
        except KeyError:
            if not self._open:
                raise AttributeError(key) from None
            value = None
        return Null(name=f"{self._name}.{key}") if value is None else value

    def __getitem__(self, key: str) -> Any:
        try:
            return self.__getattr__(key)
        except AttributeError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)


def clean_text(value: str) -> str | None:
    """`value` on one line, without invisible characters; None if nothing is left."""
    return plain_text.plain(value, LONGEST_TEXT) or None


def rows(value: Any, shape: str) -> list[dict[str, Any]] | None:
    """The objects in a list, or None if the lab sent something else."""
    if not isinstance(value, list):
        return None
    return [made for row in value if (made := resource(row, shape))]


def clean(value: Any, shape: str) -> Any:
    """A field's value, or None if the lab sent something of another shape."""
    if not shape:
        return plain(value)
    if shape.endswith("*"):
        return rows(value, shape[:-1])
    if shape != "?":
        return resource(value, shape)
    if not isinstance(value, dict):
        return None
    return {name: plain(v) for key, v in value.items() if (name := clean_text(key))}


def plain(value: Any) -> Any:
    """Text, a number or a list of them; None for anything else."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [item for item in map(plain, value) if item is not None]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # the lab's JSON may have a NaN, a ledger's may not
    return value if isinstance(value, bool | int | float) else None


def resource(value: Any, shape: str) -> dict[str, Any] | None:
    """The documented fields of one of the lab's objects, each present and clean, or None."""
    if not isinstance(value, dict):
        return None
    given = {
        key: found if key in _COUNTED else plain_text.written(found) for key, found in value.items()
    }
    return {key: clean(given.get(key), inner) for key, inner in SHAPES[shape].items()}


def record(name: str, value: Mapping[str, Any] | None, shape: str = "") -> Any:
    """`value` as a template sees it under `name`. A value that may not be sent counts as empty."""
    if value is None:
        return Null(name=name)
    shapes = SHAPES.get(shape or name, {})
    fields: dict[str, Any] = {}
    for key, inner in {**dict.fromkeys(shapes), **value}.items():  # what was not kept is empty
        kind = shapes.get(key, "")
        if kind.endswith("*") and inner is not None:
            fields[key] = [record(key, row, kind[:-1]) for row in inner]
        elif kind and inner is not None:
            fields[key] = record(f"{name}.{key}", inner, kind)
        elif name != "clinic" and why_left_out(key, inner):
            fields[key] = None
        else:
            fields[key] = inner
    return Record(name, fields, is_open=shape == "?")


def why_left_out(key: str, value: Any) -> str:
    """Why messages leave a field out, since anybody may have filled it in; empty if they do not."""
    if key in NAMES and value:
        return plain_text.why_no_name(str(value))
    is_link = isinstance(value, str) and "url" not in key and plain_text.has_address(value)
    return "has a link in it" if is_link else ""


# The parts that two spellings of a person's field share if they mean the same.
_MEANT: dict[str, Callable[[str], Iterable[str]]] = {
    **dict.fromkeys(NAMES, lambda name: plain_text.fold(name).split()),
    BORN: lambda date: (date[:10],),
    PHONE: lambda number: (plain_text.digits(number),),
    EMAIL: lambda address: (plain_text.mailbox(address).casefold(),),
}


def differing(registration: Mapping[str, Any], record: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields in which a registration and the patient's record differ; names, if no word agrees."""
    found = []
    for key, meant in _MEANT.items():
        pair = (registration.get(MOBILE if key == PHONE else key), record.get(key))
        if all(pair) and not any(why_left_out(key, value) for value in pair):
            first, second = (set(meant(str(value))) for value in pair)
            found += [key] if first.isdisjoint(second) else []
    return tuple(found)


@dataclass(frozen=True)
class Facts:
    """The facts fetched for one event: each resource's cleaned fields, or None."""

    order: Mapping[str, Any] | None = None
    registration: Mapping[str, Any] | None = None
    customer: Mapping[str, Any] | None = None
    patient: Mapping[str, Any] | None = None
    differs: tuple[str, ...] = ()  # fields that differ in the patient's own record

    def namespace(self) -> dict[str, Any]:
        """The names that rules and templates see."""
        return {name: record(name, getattr(self, name)) for name in RESOURCES}

    def without_unread(self, read: frozenset[str]) -> Facts:
        """These facts without the sensitive fields that are not in `read`."""
        kept: dict[str, Any] = {}
        for name in RESOURCES:
            fields = getattr(self, name)
            drop = set(SENSITIVE.get(name, ())) - read
            kept[name] = fields and {k: v for k, v in fields.items() if k not in drop}
        return replace(self, **kept)

    def lacks(self, read: frozenset[str]) -> bool:
        """Whether a field in `read` was not kept, or has been erased since."""
        for name in RESOURCES:
            fields = getattr(self, name)
            wanted = set(SHAPES[name]) - (set(SENSITIVE.get(name, ())) - read)
            if fields is not None and not wanted <= fields.keys():
                return True
        return False

    def to_json(self) -> dict[str, Any]:
        """The form that the ledger keeps."""
        kept = {name: value for name in RESOURCES if (value := getattr(self, name)) is not None}
        return {**kept, "differs": list(self.differs)} if self.differs else kept

    def notes(self) -> Iterator[str]:
        """Yield what messages leave out, and where the lab's answers differ; without values."""
        for name in RESOURCES:
            for key, value in (getattr(self, name) or {}).items():
                if why := why_left_out(key, value):
                    yield f"The {name}'s {key.replace('_', ' ')} {why}, so messages leave it out."
        if self.differs:
            yield f"{differences_in_words(self.differs)} Messages go by the registration."

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> Facts:
        """Facts from the form that the ledger keeps."""
        known = stored or {}
        differs = tuple(known.get("differs") or ())
        return cls(**{name: known.get(name) for name in RESOURCES}, differs=differs)


def differences_in_words(fields: Iterable[str]) -> str:
    """Name the fields in which a registration and its patient's record differ, without values."""
    words = ", ".join(field.replace("_", " ") for field in fields)
    return f"The registration and the patient's own record at the lab differ in: {words}."


def full_name(facts: Facts) -> str:
    """First name and surname of the person an event is about: the patient, or else the customer."""
    return " ".join(first_known_names(facts))


def search_key(facts: Facts) -> str | None:
    """That person's name to search by: surname first, without accents, capitals and marks."""
    return fold(" ".join(reversed(first_known_names(facts))))[:LONGEST_KEY] or None


def readings(written: str) -> list[str]:
    """The possible beginnings of a written name's search key: any word may be the surname."""
    words = fold(re.sub(r"[.,]", " ", written)).split()[:MOST_WORDS]
    words = [word for word in words if word not in TITLES] or words
    turned = (words[turn:] + words[:turn] for turn in range(len(words)))
    return list(dict.fromkeys(" ".join(one) for one in turned))


def first_known_names(facts: Facts) -> tuple[str, ...]:
    """Return the first and last name of the first person in the facts who has either."""
    names = (tuple(filter(None, name_of(person))) for person in persons_in(facts))
    return next(filter(None, names), ())


def name_of(record: Mapping[str, Any]) -> tuple[str, str]:
    """Return a record's first and last name, trimmed; each is empty when unknown."""
    first, last = (str(record.get(field) or "").strip() for field in NAMES)
    return first, last


def persons_in(facts: Facts) -> Iterator[Mapping[str, Any]]:
    """Yield each person in the facts: registration, patient, customer, order's customer."""
    order = facts.order or {}
    for person in (facts.registration, facts.patient, facts.customer, order.get("customer")):
        if person:
            yield person
