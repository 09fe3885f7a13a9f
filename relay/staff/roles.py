"""Roles: what each allows a person to do on the desk. Pure."""

from __future__ import annotations

from collections.abc import Mapping

LOOK = "look"  # see everything, with personal data masked
ACT = "act"  # reveal it, and do what a case or a message needs
EDIT = "edit"  # edit rules and words, and publish them
MANAGE = "manage"  # people, erasure, the whole trail

ROLES: Mapping[str, frozenset[str]] = {
    "viewer": frozenset({LOOK}),
    "desk": frozenset({LOOK, ACT}),
    "editor": frozenset({LOOK, EDIT}),
    "manager": frozenset({LOOK, ACT, EDIT, MANAGE}),
}
FIRST = "manager"  # the role of ADMIN_PASSWORD's account
# The purpose of each role, as people read it.
WORDS: Mapping[str, str] = {
    "viewer": "sees everything, with names, addresses and messages masked",
    "desk": "sees what is masked too, and releases, retries, resends and stops messages",
    "editor": "sees what a viewer sees, and edits and publishes rules and words",
    "manager": "does all of this, adds people, erases patients and reads the audit trail",
}
