"""The person whom an erasure is about, and their data in the ledger's rows. Pure.

A family may share an address. So data with the address in the request is theirs, under any name;
data with their other addresses is theirs only under their name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote_plus

from relay.lab import plain_text
from relay.lab.facts import EMAIL, MOBILE, NAMES, PERSONS, PHONE, TITLES, Facts, name_of, persons_in
from relay.lab.plain_text import fold

_WAYS = (EMAIL, PHONE, MOBILE)
_SHORTEST = 7  # digits of a possible phone number
_BETWEEN = r"[\s().\-/]{0,3}"  # what people write between digits
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_OUTSIDE = re.compile(r"^\W+|(?:'s)?\W*$")  # of a word: quotes, brackets, a full stop, a genitive
_WORD = re.compile(r"[a-z]{3,}")
Record = Mapping[str, Any]
Name = tuple[str, str]


def key(address: str) -> str:
    """An address in comparable form: a phone number's own digits, an email in small letters."""
    while "@" in address:
        if address == (bare := plain_text.mailbox(address).casefold()):
            return bare
        address = bare  # it ends in two full stops, or is in a link in a link
    own = plain_text.digits(address)
    return own if len(own) >= _SHORTEST else ""


def without_address(asked: str) -> str:
    """A stand-in for the address of a person found by an id or a name: it is not an address."""
    return f"{asked}@"


def is_address(asked: str) -> bool:
    """Whether a request was for an address."""
    return not asked.endswith("@")


def email_spellings(way: str) -> Iterator[str]:
    """Yield an email address as it is sent and as people write it: nils@bücher.example."""
    local, at, domain = way.rpartition("@")
    yield from (f"{local}{at}{spelt}" for spelt in plain_text.domain_spellings(domain))


@dataclass(frozen=True)
class Person:
    """A person, by all the addresses and names that the ledger has shown to be theirs."""

    address: str  # the key of the address in the request
    others: frozenset[str] = frozenset()  # keys of their other addresses
    names: frozenset[Name] = frozenset()  # as they are written
    alone: frozenset[str] = frozenset()  # those of their surnames, folded, that nobody else has

    def goes_by(self, address: str, record: Record | None) -> bool:
        """Whether a message to an address is theirs. `record` is the lab's of the person it is for;
        None for staff.
        """
        written = key(address)
        if written in self.others and record is not None:
            return not record or self.owns(record)
        return bool(written) and written == self.address

    def owns(self, record: Record) -> bool:
        """Whether the lab's record of somebody is about them."""
        ways, name = set(address_keys(record)), name_of(record)
        if self.address in ways:
            return True
        if ways & self.others:
            return not any(name) or self.may_be_called(name)
        return not ways and self.is_named(name)

    def also_at(self, addresses: Iterable[str]) -> Person:
        """The person with more addresses."""
        keys = {way for address in addresses if (way := key(address))}
        return replace(self, others=self.others | (keys - {self.address}))

    def is_called(self, readings: Iterable[str]) -> bool:
        """Whether their name, surname first or last, is one of these readings, folded."""
        written = {fold(" ".join(turned)) for name in self.names for turned in (name, name[::-1])}
        return not written.isdisjoint(readings)

    def is_same_as(self, other: Person) -> bool:
        """Whether two share an address and no other name, or a full name and not two addresses."""
        if self.others & other.others:
            names = other.names or {("", "")}
            return not self.names or any(map(self.may_be_called, names))
        has_two = bool(self.others and other.others)
        return not has_two and any(map(self.is_named, other.names))

    def is_named(self, name: Name) -> bool:
        """Whether a full name is one of theirs."""
        return all(name) and folded(name) in {folded(one) for one in self.names}

    def may_be_called(self, name: Name) -> bool:
        """Whether a name is one of theirs, or a part of it."""
        parts = [zip(folded(name), folded(one), strict=True) for one in self.names]
        return any(all(a == b for a, b in pair if a and b) for pair in parts)

    def learn(self, facts: Facts) -> Person:
        """The person with what these facts add."""
        return self.known_as(*(record for record in persons_in(facts) if self.owns(record)))

    def known_as(self, *theirs: Record) -> Person:
        """The person with the names and addresses in these records, which are theirs."""
        names = {name for record in theirs if any(name := name_of(record))}
        ways = (way for record in theirs for way in address_keys(record))
        return replace(self.also_at(ways), names=self.names | names)

    def redacted(self, facts: Facts) -> Facts:
        """Facts without this person's data: the records about them remain, but empty."""
        kept: dict[str, Any] = {}
        for resource in ("order", "registration", *PERSONS):
            fields = getattr(facts, resource)
            kept[resource] = None if fields is None else self.without_own(fields)
        order = kept["order"]
        if order and order != facts.order:
            kept["order"] = {k: v for k, v in order.items() if k != "address"}
        return Facts(**kept)

    def without_own(self, value: Any) -> Any:
        """A value of the facts without this person's data, at any depth."""
        if isinstance(value, Mapping):
            if value.keys() & {*_WAYS, *NAMES}:  # another's record stays, whatever they share
                return {} if self.owns(value) else value
            return {name: self.without_own(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.without_own(inner) for inner in value]
        return None if isinstance(value, str) and self.is_in(value) else value

    def is_in(self, text: str) -> bool:
        """Whether a text names them: by an address, or by first name and surname."""
        plain = decode_text(text)
        if any(re.search(pattern, plain, re.IGNORECASE) for pattern in self.address_patterns()):
            return True
        words = f" {fold(plain)} "
        return any(
            all(name) and all(f" {word} " in words for word in folded(name)) for name in self.names
        )

    def is_meant_in(self, text: str) -> bool:
        """Whether a text that is about them names them, even by a part of their name."""
        words = f" {fold(decode_text(text))} "
        parts = {part for name in self.names for part in folded(name) if part}
        return self.is_in(text) or any(f" {part} " in words for part in parts)

    def is_noted_in(self, text: str) -> bool:
        """Whether a note by staff names them, even by a surname that is theirs alone, with a
        capital or after a title: "long" and "young" are surnames too.
        """
        plain = decode_text(text)
        is_small, before = plain == plain.lower(), ""
        for word in (_OUTSIDE.sub("", written) for written in plain.split()):
            is_name = is_small or word[:1].isupper() or before in TITLES
            if is_name and fold(word) in self.alone:
                return True
            before = word.casefold()
        words, longer = f" {fold(plain)} ", (one for one in self.alone if " " in one)
        return self.is_in(text) or any(f" {surname} " in words for surname in longer)

    def address_patterns(self) -> Iterator[str]:
        """Yield a regular expression for each of their addresses, in every spelling."""
        for way in (self.address, *self.others):
            if "@" in way:
                for written in email_spellings(way):
                    yield rf"(?<![\w.+-]){re.escape(written)}(?!\.?[\w-])"
            else:
                digits = _BETWEEN.join(way)
                yield rf"(?<!\d)(?:00{_BETWEEN})?(?:44{_BETWEEN})?0?{_BETWEEN}{digits}(?!\d)"

    def hints(self) -> Iterator[str]:
        """Yield texts to search for, in small letters: all data of theirs has at least one of them.

        For a phone number it is only the digits, and for a name the part that is in every spelling.
        """
        for way in (self.address, *self.others):
            for written in email_spellings(way) if "@" in way else (way,):
                yield from spellings(written)
        for name in self.names:
            words = [_WORD.findall(part.casefold()) for part in name]
            found = [max(some, key=len) for some in words if some]
            yield from found or spellings(name[1] or name[0])


def people(records_by_event: Iterable[Iterable[Record]], asked: str) -> list[Person]:
    """The people whom events are about, each once. `asked` stands for everybody's address."""
    found: list[Person] = []
    for records in records_by_event:
        by_name: dict[Name, Person] = {}
        for record in records:
            known = by_name.get(name := folded(name_of(record)), Person(asked))
            by_name[name] = known.known_as(record)
        for one in by_name.values():
            found = merged(found, one) if one.names or one.others else found
    return found


def merged(found: Iterable[Person], one: Person) -> list[Person]:
    """Add a person to people: they may be one of them, or join two of them."""
    others = []
    for other in found:
        if other.is_same_as(one):
            one = replace(one, others=one.others | other.others, names=one.names | other.names)
        else:
            others.append(other)
    return [*others, one]


def marks(facts: Facts) -> set[str]:
    """Marks that two events with one name share if the person is one: patient's id, addresses."""
    ids = ((facts.patient or {}).get("id"), (facts.registration or {}).get("patient_id"))
    ways = (way for record in persons_in(facts) for way in address_keys(record))
    return {*map(str, filter(None, ids)), *ways}


def address_keys(record: Record) -> Iterator[str]:
    """Yield a record's phone numbers and email addresses, in comparable form."""
    for field in _WAYS:
        if written := key(str(record.get(field) or "")):
            yield written


def folded(name: Name) -> Name:
    """A name in comparable form: in small letters, without accents."""
    return fold(name[0]), fold(name[1])


def decode_text(text: str) -> str:
    """A text as people read it: not as JSON or a form's body encodes it."""
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    return f"{text}\n{unquote_plus(text)}" if "%" in text or "+" in text else text


def spellings(name: str) -> Iterator[str]:
    """Yield a name as it is and in small letters, each also as JSON writes it in ASCII."""
    for text in filter(None, (name, name.casefold())):
        yield text
        yield "".join(c if c.isascii() else f"\\u{ord(c):04x}" for c in text)
