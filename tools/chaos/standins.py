"""The lab, Twilio and SendGrid in one process, which keeps its own list of what it accepted.

`python -m tools.chaos.standins SEED`; what it has to know comes as JSON on its first line of input.
Its control port takes `POST /mode` and `POST /change`, and gives `GET /report`.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from tools.chaos.callbacks import Callbacks
from tools.chaos.kits import ROLES
from tools.chaos.records import RESULTS, Records
from tools.chaos.wire import Door, Reply, Request

LAB, TWILIO, SENDGRID = "lab", "twilio", "sendgrid"
# A provider's faults after which it has the message all the same, and what it answers then.
ACCEPTED: dict[str, Reply] = {
    "accepted-500": Reply(500, {"message": "Accepted, and lost."}),
    "accepted-502": Reply(502, b"<html>Bad gateway</html>"),
    "hang": Reply(how="hang"),
    "hang-up": Reply(how="hang-up"),
    "drip": Reply(201, b"x" * 100, how="drip"),
    "garbage": Reply(201, b"<html>{'sid': nothing"),
    "garbage-200": Reply(200, b"\xff\xfe[]"),
    "empty": Reply(201, b""),
}
_BUSY = {"Retry-After": "5"}
# Those after which it surely has not.
REFUSED: dict[str, dict[str, Reply]] = {
    TWILIO: {
        "500": Reply(500, {"message": "Not accepted."}),
        "503": Reply(503, b""),
        "429": Reply(429, {"code": 20429, "message": "Too many."}, _BUSY),
        "401": Reply(401, {"code": 20003, "message": "Authenticate."}),
        "invalid": Reply(400, {"code": 21211, "message": "Not a number."}),
        "opted-out": Reply(400, {"code": 21610, "message": "Unsubscribed."}),
    },
    SENDGRID: {
        "500": Reply(500, {"errors": []}),
        "503": Reply(503, b""),
        "429": Reply(429, {"errors": []}),
        "401": Reply(401, {"errors": []}),
        "invalid": Reply(400, {"errors": []}),
    },
}
LAB_FAULTS: dict[str, Reply] = {
    "404": Reply(404, {"message": "Not found."}),
    "429": Reply(429, {"message": "Too many."}, {"Retry-After": "10"}),
    "500": Reply(500, {"message": "Broken."}),
    "401": Reply(401, {"message": "Token is not valid."}),
    "204": Reply(204),
    "redirect": Reply(302, b"", {"Location": "http://127.0.0.1:1/api/order/1"}),
    "garbage": Reply(200, b"<html>"),
    "list": Reply(200, []),
    "null": Reply(200, None),
    "hang": Reply(how="hang"),
    "hang-up": Reply(how="hang-up"),
    "drip": Reply(200, b"{}" * 50, how="drip"),
    "slow": Reply(),
    "another": Reply(),  # somebody else's record
}


class StandIns:
    """Answers, and keeps a list."""

    def __init__(self, seed: int, callbacks: Callbacks):
        self._random = random.Random(seed)
        self._callbacks = callbacks
        self.modes: dict[str, dict[str, float]] = {}
        self.accepted: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        self.counts: dict[str, int] = {}
        self.records = Records()
        self.doors = {
            LAB: Door(self._lab),
            TWILIO: Door(self._twilio),
            SENDGRID: Door(self._sendgrid),
            "control": Door(self._control),
        }

    def _fault(self, service: str) -> str:
        """The fault that a request meets; mostly none."""
        drawn = self._random.random()
        for fault, likely in self.modes.get(service, {}).items():
            drawn -= likely
            if drawn < 0:
                self.counts[f"{service} {fault}"] = self.counts.get(f"{service} {fault}", 0) + 1
                return fault
        return ""

    async def _control(self, request: Request) -> Reply:
        if request.method == "GET":
            lists = {"accepted": self.accepted, "refused": self.refused}
            return Reply(200, {**lists, "told": self._callbacks.told, "counts": self.counts})
        told = json.loads(request.body)
        if request.path == "/change":
            for path, fields in told:
                self.records.change(path, fields)
            return Reply(200, {})
        for service, faults in told.items():
            self.modes[service] = faults
            if "refuse" in faults:
                self.doors[service].shut()
            else:
                await self.doors[service].open()
        self._callbacks.is_calm = not any(self.modes.values())
        return Reply(200, {})

    async def _lab(self, request: Request) -> Reply:
        fault = self._fault(LAB)
        kind, found = self.records.find(request.path)
        # A person's record that is "not found" would be an honest reason to tell nobody, and of
        # results nobody can see whose they are.
        if fault == "404" and kind in ROLES:
            fault = ""
        if fault == "another":
            found = found if kind == RESULTS else self.records.another(kind, self._random)
        elif fault == "slow":
            await asyncio.sleep(self._random.uniform(0.5, 3.0))
        elif fault:
            return LAB_FAULTS[fault]
        after = self._random.uniform(0.0, 0.02)
        if found is None:
            return Reply(404, {})
        return Reply(200, found, after=after) if found else Reply(204)

    async def _twilio(self, request: Request) -> Reply:
        fault = self._fault(TWILIO)
        if request.method == "GET":
            return self._listed(request, fault)
        form = request.form
        url = form.get("StatusCallback", "").partition("#")[0]  # the rest is for Twilio
        attempt = url.rpartition("attempt=")[2]
        if fault in REFUSED[TWILIO]:
            return self._refuse(TWILIO, fault, attempt, form["To"])
        sid = f"SM{len(self.accepted):032x}"
        self._accept(TWILIO, sid, attempt, form["To"], form["Body"])
        made = {"sid": sid, "status": "queued", "direction": "outbound-api", "num_segments": "1"}
        await self._callbacks.of_text(sid, url, attempt, form["To"])
        after = self._random.uniform(0.0, 0.1)
        return ACCEPTED.get(fault) or Reply(201, {**made, "error_code": None}, after=after)

    def _listed(self, request: Request, fault: str) -> Reply:
        """Twilio's list of texts to a number."""
        if fault in REFUSED[TWILIO]:
            return REFUSED[TWILIO][fault]
        if fault in ACCEPTED:
            return ACCEPTED[fault]
        found = [
            {
                **{"sid": one["id"], "to": one["to"], "body": one["words"], "status": "sent"},
                **{"direction": "outbound-api", "from": "EXCLINIC", "num_segments": "1"},
                **{"error_code": None, "error_message": None, "num_media": "0"},
                **dict.fromkeys(("date_created", "date_sent", "date_updated"), one["date"]),
                "uri": f"/2010-04-01/Accounts/AC/Messages/{one['id']}.json",
            }
            for one in reversed(self.accepted)
            if one["service"] == TWILIO and one["to"] == request.query.get("To")
        ]
        pages = {"next_page_uri": None, "uri": request.path, "page": 0, "page_size": 100}
        return Reply(200, {"messages": found, **pages})

    async def _sendgrid(self, request: Request) -> Reply:
        fault = self._fault(SENDGRID)
        mail = json.loads(request.body)
        (personal,) = mail["personalizations"]
        # The release before names it otherwise (`make side-by-side`).
        named = personal.get("custom_args") or mail["custom_args"]
        attempt = named.get("relay_attempt") or named["attempt"]
        to = personal["to"][0]["email"]
        if fault in REFUSED[SENDGRID]:
            return self._refuse(SENDGRID, fault, attempt, to)
        id_ = f"sg-{len(self.accepted)}"
        self._accept(SENDGRID, id_, attempt, to, mail["subject"])
        await self._callbacks.of_email(id_, attempt, to)
        after = self._random.uniform(0.0, 0.1)
        return ACCEPTED.get(fault) or Reply(202, b"", {"X-Message-Id": id_}, after=after)

    def _refuse(self, service: str, fault: str, attempt: str, to: str) -> Reply:
        self.refused.append({"service": service, "fault": fault, "attempt": attempt, "to": to})
        reply = REFUSED[service][fault]
        if service == SENDGRID and fault == "429":
            return Reply(429, reply.body, {"X-RateLimit-Reset": str(int(time.time()) + 5)})
        return reply

    def _accept(self, service: str, id_: str, attempt: str, to: str, words: str) -> None:
        """Keep what we have taken, whatever is answered."""
        date = format_datetime(datetime.now(UTC))
        self.accepted.append(
            {
                **{"service": service, "id": id_, "attempt": attempt, "to": to, "words": words},
                **{"date": date, "at": time.time()},
            }
        )


async def main(seed: int) -> None:
    """Serve until killed."""
    told = json.loads(sys.stdin.readline())
    callbacks = Callbacks(random.Random(seed + 1), told)
    standins = StandIns(seed, callbacks)
    for door in standins.doors.values():
        await door.open()
    print(json.dumps({name: door.port for name, door in standins.doors.items()}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
