"""The names that a template's file may print, for the person who writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from relay.lab.facts import SENSITIVE, SHAPES
from relay.messages import alerts
from relay.messages.templates import DIGEST_VOCABULARY
from relay.rules.expressions import Names, vocabulary
from relay.rules.model import Rule

_IN_EACH: Names = {name: DIGEST_VOCABULARY[name] for name in ("clinic", "recipient")}


def names_in(
    file: str, rules: Iterable[Rule], extra: Iterable[str] = ()
) -> Mapping[str, Sequence[str]]:
    """The names that every rule with this file may print, by their first word; for the clinic also
    its `extra` ones. Fields that few messages need, such as a date of birth, are left to the docs.
    """
    folder = file.partition("/")[0]
    if folder == alerts.FOLDER:
        known = [alerts.names_in(file)]
    else:
        used_by = (rule for rule in rules if rule.template == folder)
        known = [DIGEST_VOCABULARY if one.digest else vocabulary(one.event) for one in used_by]
    first, *others = known or [_IN_EACH]
    found = {}
    for root, fields in first.items():
        if all(root in other for other in others):
            shared = (fields or frozenset()).intersection(*(one[root] or () for one in others))
            shape, left_out = SHAPES.get(root, {}), SENSITIVE.get(root, ())
            found[root] = [
                one for one in sorted(shared) if not shape.get(one) and one not in left_out
            ]
    found["clinic"] += [f"extra.{name}" for name in sorted(extra)]
    return {root: [f"{root}.{one}" for one in some] for root, some in found.items() if some}
