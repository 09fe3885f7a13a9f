"""The words of alerts: templates/alerts, for the staff's phones and mailboxes, and for the desk.

`words/<kind>.txt` has the words of one kind of case, in three blocks: `title`, `happened`, `to_do`.
The desk's worklist shows them, and the files next to it put them into a text or an email.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from jinja2 import nodes

from relay.errors import RenderError
from relay.lab.facts import RECIPIENT_FIELDS, SHAPES, Record
from relay.logs import get_logger
from relay.messages.templates import Fault, Message, Templates, files
from relay.rules import alerts
from relay.rules.channels import ALERT_CHANNELS
from relay.rules.expressions import Names, unknown_names

log = get_logger("relay.alerts")

FOLDER = "alerts"
TITLE, HAPPENED, TO_DO = "title", "happened", "to_do"
_WORDS_SEE: Names = {
    "clinic": frozenset(SHAPES["clinic"]),
    "case": frozenset(
        {
            *("id", "kind", "subject", "about", "reason", "others", "link", "count", "many"),
            "is_urgent",
        }
    ),
}
_MESSAGES_SEE: Names = {
    "clinic": frozenset(SHAPES["clinic"]),
    "recipient": frozenset(RECIPIENT_FIELDS),
    "case": frozenset({*(_WORDS_SEE["case"] or ()), TITLE, HAPPENED, TO_DO}),
}


@dataclass(frozen=True)
class CaseNames:
    """A case's names for its words.

    `others` is the number of other open cases of its kind, `link` its address on the desk (may be
    empty), `count` the number of messages or events it is about.
    """

    id: str
    kind: str
    subject: str
    reason: str
    others: int = 0
    link: str = ""
    count: int = 1
    is_digest: bool = False  # it is about a message with many kits
    is_urgent: bool = False  # somebody may be unwell


@dataclass(frozen=True)
class Words:
    """The words about one case."""

    title: str
    happened: str
    to_do: str


class AlertTemplates:
    """The words of alerts, from one folder of templates."""

    def __init__(self, templates: Templates, clinic: Record):
        self._templates = templates
        self._clinic = clinic

    def title(self, kind: str) -> str:
        """The title of a kind of case, or a plain sentence if its words cannot be read."""
        if kind not in alerts.KINDS:
            return "Something that this version of Relay does not know"
        try:
            return self.render_title(kind)
        except RenderError as error:
            log.error("alert template broken", kind=kind, reason=str(error))
            return alerts.plain_title(kind)

    def words(self, case: CaseNames) -> Words:
        """The desk's words about a case, or plain sentences if its words cannot be read."""
        title = self.title(case.kind)
        if case.kind not in alerts.KINDS:  # that version has been rolled back
            happened = f"A newer version opened this case, about {case.subject}."
            return Words(title, happened, "Look at it once that version is back, or close it.")
        try:
            return self.render_words(case)
        except RenderError as error:
            log.error("alert template broken", kind=case.kind, reason=str(error))
            to_do = "Run `flask relay check` to see what is wrong with the words of this case."
            return Words(title, f"It is about {case.subject}.", to_do)

    def message(self, case: CaseNames, channel: str, address: str, role: str) -> Message:
        """An alert to one address of the staff group `role`. Raises RenderError."""
        said = {**fields(case), **vars(self.render_words(case))}
        names = {
            "clinic": self._clinic,
            "recipient": Record("recipient", {**dict.fromkeys(RECIPIENT_FIELDS), "role": role}),
            "case": Record("case", said),
        }
        return self._templates.render(FOLDER, channel, address, names)

    def faults(self) -> Iterator[Fault]:
        """Yield the faults of the files: missing, not Jinja, unknown names."""
        for kind in alerts.KINDS:
            yield from self._templates.file_faults(words_file(kind), unknown_in_words)
        for file in files(FOLDER, ALERT_CHANNELS):
            unknown = partial(unknown_names, names=_MESSAGES_SEE)
            yield from self._templates.file_faults(file, unknown)

    def render_words(self, case: CaseNames) -> Words:
        """The words of a case, from its templates. Raises RenderError."""
        names = {"clinic": self._clinic, "case": Record("case", fields(case))}
        file, block = words_file(case.kind), self._templates.block
        return Words(
            self.render_title(case.kind),
            happened=block(file, HAPPENED, names),
            to_do=block(file, TO_DO, names),
        )

    def render_title(self, kind: str) -> str:
        """The title of a kind of case, from its template. Raises RenderError."""
        # Without a case: the desk shows it for all cases of the kind together.
        return self._templates.block(words_file(kind), TITLE, {"clinic": self._clinic})


def unknown_in_words(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    """Yield the line and fault of each name that an alert's words may not use."""
    yield from unknown_names(tree, _WORDS_SEE)
    for block in tree.find_all(nodes.Block):
        if block.name == TITLE:
            for name in block.find_all(nodes.Name):
                if name.name == "case":
                    yield name.lineno, "a title cannot name its case: it stands for all of a kind."


def names_in(file: str) -> Names:
    """The names that a file of the folder may use."""
    return _WORDS_SEE if "/words/" in file else _MESSAGES_SEE


def words_file(kind: str) -> str:
    """The file with the words of a kind of case."""
    return f"{FOLDER}/words/{kind}.txt"


def fields(case: CaseNames) -> dict[str, object]:
    """The names that templates see of a case. An empty one stops a message that prints it bare."""
    return {
        **vars(case),
        "about": alerts.about(case.subject, is_digest=case.is_digest),
        "reason": case.reason or None,
        "link": case.link or None,
        "many": alerts.counted(case.kind, case.count),
    }
