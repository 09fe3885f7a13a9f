"""A stand-in for the lab's API, in its documented shapes: `python -m relay.dev.lab_simulator`.

Every id names something, so that any event can be played. The same id always gives the same person.
"""

from __future__ import annotations

import argparse
import hmac
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Response, abort, jsonify, request

from relay.lab import samples
from relay.lab.facts import EMAIL, PHONE

_FIRST = ("Jane", "Amir", "Chloe", "David", "Grace", "Oliver", "Priya", "Tom")
_LAST = ("Smith", "Khan", "Evans", "Okafor", "Brown", "Patel", "Jones", "Wilson")
# The lab's own examples use two names for one registration, and another is its retest.
_SAME = {"1234-5678": "e23e2d33-5ab4-4efc-8e94-7e914b5f99df"}
_RETESTS = {"5555-6666": "e23e2d33-5ab4-4efc-8e94-7e914b5f99df"}


def create_simulator(token: str = "") -> Flask:
    """Make the stand-in. If `token` is set, it refuses all others."""
    app = Flask(__name__)

    @app.before_request
    def refuse_strangers() -> Response | tuple[Response, int] | None:
        """Answer 401 to a request without the token."""
        shown = request.headers.get("Authorization", "").encode()
        if token and not hmac.compare_digest(shown, f"Bearer {token}".encode()):
            return jsonify(message="Token is not valid."), 401
        return None

    @app.get("/api/test_registration/<id_>/lab_results/")
    def get_results(id_: str) -> Response:
        """The results of a registration: they are always ready."""
        return jsonify(samples.resources()["lab_results"])

    @app.get("/api/<kind>/<id_>", strict_slashes=False)
    def get_resource(kind: str, id_: str) -> Response:
        """A registration, an order, a patient or a customer, by any of its names."""
        return jsonify(MADE[kind](id_)) if kind in MADE else abort(404)

    return app


def canonical(id_: str) -> str:
    """The UUID of a registration, by any of its names."""
    known = _SAME.get(id_, id_)
    try:
        return str(uuid.UUID(known))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"relay-simulator:{known}"))


def person(id_: str) -> dict[str, Any]:
    """A patient or a customer. Their numbers are in the range that Ofcom reserves for drama."""
    number = uuid.UUID(canonical(id_)).int
    first, last = _FIRST[number % 8], _LAST[number // 8 % 8]
    return {
        **samples.resources()["patient"],
        "id": id_,
        "first_name": first,
        "last_name": last,
        EMAIL: f"{first}.{last}.{number % 1000}@example.com".lower(),
        PHONE: f"+447700900{number % 1000:03}",
    }


def registration(id_: str) -> dict[str, Any]:
    """A registration; its phone number is its patient's."""
    own = canonical(id_)
    patient = person(_RETESTS.get(id_, own))
    return {
        **samples.resources()["test_registration"],
        "id": own,
        "trf_code": f"LML-{own[:6].upper()}",
        "foreign_id": None if id_ == own else id_,
        "patient_id": patient["id"],
        "parent_id": _RETESTS.get(id_),
        "status": "success",
        **{key: patient[key] for key in ("first_name", "last_name", EMAIL)},
    }


def order(id_: str) -> dict[str, Any]:
    """An order of one kit, not of the registration that the lab's examples give the same id."""
    kit, customer = canonical(f"kit of {id_}"), person(id_)
    details = ("id", "first_name", "last_name", EMAIL, PHONE)
    return {
        **samples.resources()["order"],
        "id": id_,
        "customer_id": customer["id"],
        "customer": {key: customer[key] for key in details},
        "shipping_status": "delivered",  # fits both events of an order
        "carrier": "royal_mail",
        "tracking_number": f"RM{uuid.UUID(canonical(id_)).int % 10**9:09}GB",
        "order_number": id_[:8].upper(),
        "test_registrations": [{"id": kit, "trf_code": f"LML-{kit[:6].upper()}", "product": []}],
    }


MADE: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "test_registration": registration,
    "order": order,
    "patient": person,
    "customer": person,
}


def main() -> None:
    """Serve until stopped."""
    from werkzeug.serving import run_simple

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9001)
    parser.add_argument("--token", default="", help="refuse every other bearer token")
    chosen = parser.parse_args()
    run_simple("127.0.0.1", chosen.port, create_simulator(chosen.token), threaded=True)


if __name__ == "__main__":
    main()
