"""The lab's API: an event's ids → facts. A webhook is a hint; what this API says decides.

The token goes to LAB_API_URL and nowhere else: URLs are built from it and an id, `data.url` is
never followed, and a redirect is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from relay.errors import LabError, NotReady
from relay.http_client import Answer, HttpClient, NoAnswer
from relay.lab.events import RESULTS, Kind
from relay.lab.facts import EMAIL, MOBILE, PHONE, Facts, resource

_PATHS = {"order": "order", "registration": "test_registration"}
_ID_IN_URL = re.compile(r"/api/(order|test_registration)/([^/?#]+)(?:/|$)")
_DETAILS = ("first_name", "last_name", EMAIL, PHONE)


class LabClient:
    """The lab's API at one address, with one token."""

    def __init__(self, wire: HttpClient, base_url: str, token: str):
        self._wire = wire
        self._base = base_url.rstrip("/")
        self._headers = {"Accept": "application/json", "User-Agent": "relay"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def gather(
        self, kind: Kind, data: Mapping[str, Any], wanted: frozenset[str], order_id: str | None
    ) -> Facts:
        """The facts of an event, and of what `wanted` names beyond its own resource.

        `order_id` is the order a registration came with, when the ledger knows it. Raises LabError;
        NotReady while results are announced but answer 204.
        """
        found, used = self._first(kind, data)
        if kind.resource == "order":
            return self._with_registration(found, wanted)
        if kind.name == RESULTS and found.get("status") != "cancelled":
            self._require_results(used)
        wants_order = order_id and wanted & {"order", "customer"}
        order = self._get_if_there("order", str(order_id)) if wants_order else None
        return Facts(
            registration=found,
            patient=self._patient(found),
            order=order,
            customer=self._customer(order) if order else None,
        )

    def _with_registration(self, order: dict[str, Any], wanted: frozenset[str]) -> Facts:
        """An order's facts; its registration's too when it has just one and a rule names it."""
        listed = [row["id"] for row in order.get("test_registrations") or () if row.get("id")]
        registration = None
        if wanted & {"registration", "patient"} and len(listed) == 1:
            registration = self._get("registration", listed[0])
        return Facts(
            order=order,
            customer=self._customer(order),
            registration=registration,
            patient=self._patient(registration) if registration else None,
        )

    def _first(self, kind: Kind, data: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """The event's resource and the id that found it: its own, or else the one in its `url`."""
        own = str(data[kind.id_field])
        try:
            return self._get(kind.resource, own), own
        except LabError as error:
            other = self._id_in_url(kind, data.get("url"))
            if not error.missing or other in (None, own):
                raise
            return self._get(kind.resource, str(other)), str(other)

    def _id_in_url(self, kind: Kind, url: Any) -> str | None:
        """The id in a webhook's `url`, if that names the configured host and the same resource."""
        try:
            theirs, ours = urlsplit(str(url)), urlsplit(self._base)
            if (theirs.scheme, theirs.netloc) != (ours.scheme, ours.netloc) or "\\" in str(url):
                return None
        except ValueError:
            return None
        found = _ID_IN_URL.match(theirs.path)
        if not found or found[1] != _PATHS[kind.resource]:
            return None
        return unquote(found[2])

    def _customer(self, order: Mapping[str, Any]) -> dict[str, Any] | None:
        """Who ordered, from the order itself, filled up from their own record."""
        embedded = order.get("customer") or {}
        known = resource(
            {**embedded, "id": embedded.get("id") or order.get("customer_id")}, "customer"
        )
        return self._filled("customer", known or {})

    def _patient(self, registration: Mapping[str, Any]) -> dict[str, Any] | None:
        """Who takes the test: the registration's own details come before the patient's record."""
        own = {key: registration.get(key) for key in ("first_name", "last_name", EMAIL)}
        phone = registration.get(MOBILE)
        person = resource({**own, "id": registration.get("patient_id"), PHONE: phone}, "patient")
        return self._filled("patient", person or {})

    def _filled(self, kind: str, person: dict[str, Any]) -> dict[str, Any]:
        """`person` with what is missing fetched, if there is a record to fetch it from."""
        if not person.get("id") or all(person.get(key) for key in _DETAILS):
            return person
        fetched = self._get_if_there(kind, person["id"]) or {}
        return {key: person.get(key) or fetched.get(key) for key in person}

    def _get_if_there(self, kind: str, id_: str) -> dict[str, Any] | None:
        """A resource that an event can do without; None when the lab does not know it."""
        try:
            return self._get(kind, id_)
        except LabError as error:
            if error.missing:
                return None
            raise

    def _get(self, kind: str, id_: object) -> dict[str, Any]:
        answer = self._ask(f"/api/{_PATHS.get(kind, kind)}/{_segment(id_)}")
        try:
            found = resource(json.loads(answer.body), kind)
        except (ValueError, RecursionError) as error:
            raise LabError("The lab's answer could not be read.") from error
        if found is None:
            raise LabError("The lab's answer was not what its documentation says.")
        return found

    def _require_results(self, id_: str) -> None:
        """Only whether they are there: their content is not read."""
        self._ask(f"/api/test_registration/{_segment(id_)}/lab_results/")

    def _ask(self, path: str) -> Answer:
        try:
            answer = self._wire.send("GET", self._base + path, self._headers)
        except NoAnswer as error:
            raise LabError(f"The lab's API did not answer ({error}).") from error
        if answer.status == 200:
            return answer
        if answer.status == 204:
            raise NotReady("The lab has announced results that are not ready yet.")
        meanings = {
            401: "refuses our token",
            403: "refuses our token",
            404: "does not know this id",
        }
        meaning = meanings.get(answer.status, "did not give what was asked")
        if 300 <= answer.status < 400:
            meaning = "answered with a redirect, which is not followed"
        raise LabError(
            f"The lab's API {meaning} ({answer.status}).",
            missing=answer.status in (404, 410),
            refused=answer.status in (401, 403),
            retry_after=answer.retry_after if answer.status in (429, 503) else None,
        )


def _segment(id_: object) -> str:
    """An id as one segment of a path. Raises LabError for those that no encoding keeps there."""
    if id_ in (".", ".."):
        raise LabError("The lab's API cannot be asked for this id.", missing=True)
    return quote(str(id_), safe="")
