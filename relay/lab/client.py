"""The lab's API: an event's ids → facts. A webhook is only a hint; this API decides.

The token goes only to LAB_API_URL: Relay builds URLs from it and an id, never follows `data.url`,
and follows redirects only to the same scheme, host and port.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from relay.errors import LabError, NotReady
from relay.http_client import Answer, HttpClient, NoAnswer, origin
from relay.lab.events import ORDER, REGISTRATION, Kind, is_named
from relay.lab.facts import EMAIL, MOBILE, NAMES, PHONE, Facts, differing, resource

_PATHS = {"order": "order", "registration": "test_registration"}
_ID_IN_URL = re.compile(r"/api/(order|test_registration)/([^/?#]+)(?:/|$)")
_REDIRECTS = (301, 302, 303, 307, 308)
_OF_A_RESULT = {"id", "name", "value"}  # an object with one of these fields is a result
_MOST_CALLS = 4  # for one answer: the first, and redirects
_DETAILS = (*NAMES, EMAIL, PHONE)
_MEANS = {401: "refuses our token", 403: "refuses our token", 404: "does not know this id"}
_ASK = "ask the lab about it."
_NOT_AS_DOCUMENTED = "The lab's answer was not what its documentation says."


class LabClient:
    """The lab's API at one address, with one token."""

    def __init__(self, wire: HttpClient, base_url: str, token: str):
        self._wire = wire
        self._base = base_url.rstrip("/")
        self._headers = {"Accept": "application/json", "User-Agent": "relay"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def gather(
        self,
        kind: Kind,
        data: Mapping[str, Any],
        wanted: frozenset[str],
        order_of: Callable[[str], str | None] | None = None,
    ) -> Facts:
        """Fetch the facts of an event, and the resources in `wanted` beyond its own.

        `order_of` gives the order that a registration, by its own id, came with, if the ledger
        knows it. Raises LabError; NotReady while the API contradicts the event.
        """
        own, asks_results = str(data[kind.id_field]), kind.asks == "results"
        # Before the registration: a status that is read first may be older than the results.
        results = self._results(own) if asks_results else 0
        found, used = self._first(kind, data)
        if asks_results and used != own:
            results = self._results(used)
        if kind.resource == ORDER:
            facts = self._with_registration(found, wanted)
        else:
            facts = self._with_order(found, used, wanted, order_of)
        self._require(kind, data, facts, results)
        return facts

    def _require(self, kind: Kind, data: Mapping[str, Any], facts: Facts, results: int) -> None:
        """Check what the row of an event demands. Raises NotReady while the API contradicts it."""
        own = facts.order if kind.resource == ORDER else facts.registration
        if not kind.contradiction or not own:
            return
        if kind.asks == "results" and own.get("status") == "cancelled":
            return  # there may never be any, and no message needs them
        answers: dict[str, Any] = {kind.resource: own, "results": results}
        if kind.asks == "retest":
            new = data.get("retest_testregistration_id")
            answers["retest"] = self._get(kind.resource, new) if new else {}
        if why := kind.contradiction(answers):
            raise NotReady(why, facts)

    def _with_order(
        self,
        registration: dict[str, Any],
        used: str,
        wanted: frozenset[str],
        order_of: Callable[[str], str | None] | None,
    ) -> Facts:
        """A registration's facts; its order's too if that is known and a rule names it."""
        asked = order_of if wanted & {"order", "customer"} else None
        order_id = asked(str(registration.get("id") or used)) if asked else None
        order = self._get_if_there("order", order_id) if order_id else None
        customer = self._customer(order) if order else None
        return self._with_patient(Facts(order, registration, customer), wanted)

    def _with_registration(self, order: dict[str, Any], wanted: frozenset[str]) -> Facts:
        """An order's facts; its registration's too if it has just one and a rule names it."""
        listed = [row["id"] for row in order.get("test_registrations") or () if row.get("id")]
        registration = None
        if wanted & {"registration", "patient"} and len(listed) == 1:
            registration = self._get("registration", listed[0])
        facts = Facts(order, registration, self._customer(order))
        return self._with_patient(facts, wanted) if registration else facts

    def _first(self, kind: Kind, data: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """Return an event's resource and the id that found it: its own, or that in its `url`."""
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
        """The person who ordered, from the order itself; their own record fills the gaps."""
        embedded = order.get("customer") or {}
        id_ = embedded.get("id") or order.get("customer_id")
        person = resource({**embedded, "id": id_}, "customer") or {}
        return person if _is_whole(person) else self._filled("customer", person)[0]

    def _with_patient(self, facts: Facts, wanted: frozenset[str]) -> Facts:
        """Add the person who takes the test: the registration's own details come before the
        patient's record. If messages go to the patient, Relay asks for that record even if nothing
        is missing, since the two may be of different people; a failure then does not delay news.
        """
        own = facts.registration or {}
        known = {**own, "id": own.get("patient_id"), PHONE: own.get(MOBILE), "foreign_id": None}
        person = resource(known, "patient") or {}
        record: Mapping[str, Any] = {}
        is_whole = _is_whole(person)
        try:
            if not is_whole or "patient" in wanted:
                person, record = self._filled("patient", person)
        except LabError:
            if not is_whole:
                raise
        return replace(facts, patient=person, differs=differing(own, record))

    def _filled(
        self, kind: str, person: dict[str, Any]
    ) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """`person` with gaps filled from their record, and that record, if there is one."""
        record = self._get_if_there(kind, person["id"]) if person.get("id") else None
        found = record or {}
        return {key: person.get(key) or found.get(key) for key in person}, found

    def _get_if_there(self, kind: str, id_: str) -> dict[str, Any] | None:
        """A resource that an event can do without; None if the lab does not know it."""
        try:
            return self._get(kind, id_)
        except LabError as error:
            if error.missing:
                return None
            raise

    def _get(self, kind: str, id_: object) -> dict[str, Any]:
        """Fetch a resource. Relay rejects an answer with another id than it asked for."""
        found = resource(self._json(f"/api/{_PATHS.get(kind, kind)}/{segment(id_)}"), kind)
        if found is None:
            raise LabError(_NOT_AS_DOCUMENTED)
        if kind == REGISTRATION:
            is_it = is_named(found, str(id_))
        else:
            is_it = str(found["id"] or "").casefold() == str(id_).strip().casefold()
        if not is_it:
            raise LabError("The lab's API answered with another record than it was asked for.")
        return found

    def _results(self, id_: str) -> int:
        """The number of results, 0 for an unknown id; checks only that they look like results. PHP
        sends a list with gaps as an object.
        """
        try:
            found = self._json(f"/api/test_registration/{segment(id_)}/lab_results/")
        except LabError as error:
            if error.missing or isinstance(error, NotReady):
                return 0
            raise
        if isinstance(found, dict) and found and all(map(str.isdigit, found)):
            found = list(found.values())
        if not isinstance(found, list) or not all(
            isinstance(row, dict) and row.keys() & _OF_A_RESULT for row in found
        ):
            raise LabError(_NOT_AS_DOCUMENTED)
        return len(found)

    def _json(self, path: str) -> Any:
        try:
            return json.loads(self._ask(path).body)
        except (ValueError, RecursionError) as error:
            raise LabError("The lab's answer could not be read.", failed=True) from error

    def _ask(self, path: str) -> Answer:
        url = self._base + path
        for _ in range(_MOST_CALLS):
            try:
                answer = self._wire.send("GET", url, self._headers)
            except NoAnswer as error:
                reason = f"The lab's API did not answer ({error})."
                raise LabError(reason, failed=True) from error
            if answer.status not in _REDIRECTS:
                break
            url = self._onward(url, answer)
        if answer.status == 200:
            return answer
        if answer.status == 204:
            raise NotReady("The lab's API has nothing there yet.")
        meaning = _MEANS.get(answer.status, "did not give what was asked")
        if answer.status in _REDIRECTS:
            meaning = f"leads on from one redirect to the next: {_ASK[:-1]}"
        raise LabError(
            f"The lab's API {meaning} ({answer.status}).",
            missing=answer.status in (404, 410),
            refused=answer.status in (401, 403),
            status=answer.status,
            failed=answer.status in (*_REDIRECTS, 429) or answer.status >= 500,
            retry_after=answer.retry_after if answer.status in (429, 503) else None,
        )

    def _onward(self, url: str, answer: Answer) -> str:
        """The target of a redirect. Raises LabError if it is not the lab's own: the token stays."""
        try:
            to = urljoin(url, answer.headers.get("Location", ""))
        except ValueError:
            to = ""
        if to == url:
            why = f"The lab's API redirects to the same address ({answer.status}): {_ASK}"
            raise LabError(why, failed=True)
        if (there := origin(to)) == origin(self._base):
            return to
        what = f"redirects to another address ({answer.status}), which is not followed."
        known = f"If it is the lab's, set LAB_API_URL={there}" if there else "Check LAB_API_URL"
        raise LabError(f"The lab's API {what} {known}, or ask the lab.", failed=True)


def _is_whole(person: Mapping[str, Any]) -> bool:
    """Whether all details that are needed to write to somebody are known."""
    return all(person.get(key) for key in _DETAILS)


def segment(id_: object) -> str:
    """An id as one segment of a path. Raises LabError for ids that no encoding can keep there."""
    if id_ in (".", ".."):
        raise LabError("The lab's API cannot be asked for this id.", missing=True)
    return quote(str(id_), safe="")
