"""What the providers call back: signed, but late, twice, in any order, sometimes never."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from typing import Any
from urllib.parse import urlencode

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twilio.request_validator import RequestValidator

from tools.chaos.kits import STAFF
from tools.chaos.wire import post

LATEST = 4.0  # seconds until a callback comes
TRIES, LINES = 6, 12  # of one callback; calls at once
# What becomes of a message: how likely, and the words that are called back. Nothing: never.
TEXTS: tuple[tuple[float, tuple[tuple[str, str], ...]], ...] = (
    (0.82, (("queued", ""), ("sent", ""), ("delivered", ""))),
    (0.02, (("sent", ""), ("undelivered", "30006"))),
    (0.02, (("sent", ""), ("undelivered", "30008"))),
    (0.02, (("failed", "30007"),)),
    (0.12, ()),
)
EMAILS: tuple[tuple[float, tuple[tuple[str, str], ...]], ...] = (
    (0.84, (("processed", ""), ("deferred", ""), ("delivered", ""))),
    (0.02, (("processed", ""), ("bounce", "bounce"))),
    (0.02, (("processed", ""), ("bounce", "blocked"))),
    (0.12, ()),
)


class Callbacks:
    """Calls Relay back, and keeps what it has tried to tell."""

    def __init__(self, drawn: random.Random, given: dict[str, str]):
        self._random = drawn
        self._public = given["public_url"]
        self._validator = RequestValidator(given["twilio_token"])
        self._key: Any = serialization.load_pem_private_key(given["sendgrid_key"].encode(), None)
        self._running: set[asyncio.Task[None]] = set()
        self.told: list[dict[str, Any]] = []
        self.is_calm = False  # then only good news is told
        self._lines = asyncio.Semaphore(LINES)

    async def of_text(self, sid: str, url: str, attempt: str, to: str) -> None:
        """Tell what becomes of a text; sometimes before the send is answered."""
        calls = []
        for word, code in self._fate(TEXTS):
            form = {"MessageSid": sid, "MessageStatus": word, "To": to, "ErrorCode": code}
            form = {key: value for key, value in form.items() if value}
            calls.append((self._text(url, form), {"attempt": attempt, "word": word, "code": code}))
        await self._call(calls)

    async def of_email(self, id_: str, attempt: str, to: str) -> None:
        """Tell what becomes of an email."""
        calls = []
        for word, kind in self._fate(EMAILS):
            if (to, kind) == (STAFF, "bounce"):
                continue  # or nobody of the staff would be told anything more
            event = {"event": word, "email": to, "timestamp": int(time.time())}
            event |= dict.fromkeys(("relay_attempt", "attempt"), attempt)  # of both releases
            event |= {"sg_message_id": f"{id_}.recvd-1", "sg_event_id": f"{id_}-{word}"}
            event |= {"type": kind, "status": "5.1.1"} if kind else {}
            batch = json.dumps([event, {"event": "open"}]).encode()
            calls.append((self._mail(batch), {"attempt": attempt, "word": word, "code": kind}))
        await self._call(calls)

    def _fate(self, table: Any) -> list[tuple[str, str]]:
        drawn = 0.0 if self.is_calm else self._random.random()
        told: list[tuple[str, str]] = []
        for likely, words in table:
            drawn -= likely
            if drawn < 0:
                told = list(words)
                break
        if self._random.random() < 0.2:
            told += self._random.sample(told, min(2, len(told)))
        if self._random.random() < 0.5:
            self._random.shuffle(told)
        return told

    async def _call(self, calls: list[tuple[Any, dict[str, str]]]) -> None:
        for call, what in calls:
            task = asyncio.create_task(self._surely(call, what))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        if self._random.random() < 0.1:  # before the send is answered
            await asyncio.sleep(self._random.uniform(0.0, 1.0))

    async def _surely(self, call: Any, what: dict[str, str]) -> None:
        """Call until it is answered 200, as a provider does, a few calls at a time."""
        await asyncio.sleep(0 if self._random.random() < 0.2 else self._random.uniform(0, LATEST))
        self.told.append({**what, "at": time.time()})  # Relay may have taken what it did not answer
        for number in range(TRIES):
            async with self._lines:
                if await call() == 200:
                    return
            await asyncio.sleep(self._random.uniform(0.5, 1.0) * 2**number)

    def _text(self, url: str, form: dict[str, str]) -> Any:
        signature = self._validator.compute_signature(url, form)
        headers = {
            "X-Twilio-Signature": signature,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return lambda: post(url, urlencode(form).encode(), headers)

    def _mail(self, batch: bytes) -> Any:
        moment = str(int(time.time()))
        signature = self._key.sign(moment.encode() + batch, ec.ECDSA(hashes.SHA256()))
        headers = {
            "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
            "X-Twilio-Email-Event-Webhook-Timestamp": moment,
            "Content-Type": "application/json",
        }
        return lambda: post(f"{self._public}/callbacks/sendgrid", batch, headers)
