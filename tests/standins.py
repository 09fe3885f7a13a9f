"""Stand-ins for what is beyond the wire. They speak HTTP and the vendors' real payloads."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from relay.dev import lab_simulator
from relay.lab.facts import BORN, EMAIL, MOBILE, NAMES, PHONE


@dataclass
class Request:
    """A request as it came over the wire."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def query(self) -> dict[str, str]:
        """The address's query."""
        return {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}

    @property
    def form(self) -> dict[str, str]:
        """A form's fields."""
        return {key: values[0] for key, values in parse_qs(self.body.decode()).items()}

    @property
    def json(self) -> Any:
        """A JSON body."""
        return json.loads(self.body)


@dataclass
class Reply:
    """What is answered. With `hang_up` the connection is closed without a word."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False
    wait_for: threading.Event | None = None  # answer only once it is set (or after 30 s)

    def content(self) -> bytes:
        """The body as bytes."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Answer = Callable[[Request], Reply | None]


class StandIn:
    """An HTTP server of our own. `answers` are asked in turn; the first Reply is sent."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.connections: list[Any] = []  # the addresses that connected
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections.append(self.client_address)
                super().setup()

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                request = Request(
                    self.command, self.path, dict(self.headers), self.rfile.read(length)
                )
                outer.requests.append(request)
                reply = outer.reply(request)
                if reply.wait_for:
                    reply.wait_for.wait(30)
                if reply.hang_up:
                    self.close_connection = True
                    return
                content = reply.content()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.status != 204:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = _serve  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Keep quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                """A client that hung up is no news."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def reply(self, request: Request) -> Reply:
        """The first answer that takes the request, else the stand-in's own."""
        for answer in list(self.answers):
            if reply := answer(request):
                return reply
        return self.default(request)

    def default(self, request: Request) -> Reply:
        """What is answered when nothing was prepared."""
        return Reply(404, {"message": "Not found."})

    def once(self, *replies: Reply) -> None:
        """Answer the next requests with these, one each."""
        waiting = list(replies)
        self.answers.append(lambda _request: waiting.pop(0) if waiting else None)

    def always(self, reply: Reply) -> None:
        """Answer everything with this."""
        self.answers.insert(0, lambda _request: reply)

    def __enter__(self) -> Self:
        threading.Thread(target=accept_until_closed, args=(self._server,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.socket.shutdown(socket.SHUT_RDWR)  # ends the accept
        self._server.server_close()


def accept_until_closed(server: Any) -> None:
    """Serve without polling: `serve_forever` wakes hundreds of times a second, or ends late."""
    while True:
        try:
            request, address = server.get_request()
        except OSError:
            return
        server.process_request(request, address)


class RawServer:
    """A server that does as it pleases with each connection, once a request's head has come."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                head = b""
                while b"\r\n\r\n" not in head and (read := self.request.recv(65536)):
                    head += read
                try:
                    serve(self.request)
                except OSError:
                    """The client had enough of it."""

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    __enter__, __exit__ = StandIn.__enter__, StandIn.__exit__


class LabStandIn(StandIn):
    """The lab's API: the simulator's resources, which a test may change or take away.

    `resources[path]` overrides a path's answer: a dict for 200, a Reply for anything else.
    """

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token
        self.resources: dict[str, Any] = {}

    def default(self, request: Request) -> Reply:
        """The resource, if the token is right."""
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return Reply(401, {"message": "Token is not valid."})
        found = self.resources.get(request.path.rstrip("/"))
        if found is None:
            found = self._made(request.path)
        return found if isinstance(found, Reply) else Reply(200, found)

    def _made(self, path: str) -> Any:
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[-1] == "lab_results":
            return [{"id": "1", "name": "Example analyte", "value": "70"}]
        make = {
            "test_registration": lab_simulator.registration,
            "order": lab_simulator.order,
            "patient": self._patient,
            "customer": lab_simulator.person,
        }.get(parts[1] if len(parts) == 3 else "")
        return make(parts[2]) if make else Reply(404, {"message": "Not found."})

    def _patient(self, id_: str) -> dict[str, Any]:
        """A patient's own record, which agrees with the registrations that name them."""
        person = lab_simulator.person(id_)
        for own in self.resources.values():
            if isinstance(own, dict) and own.get("patient_id") == id_:
                told = {**own, PHONE: own.get(MOBILE)}
                person |= {key: told[key] for key in (*NAMES, EMAIL, PHONE, BORN) if told.get(key)}
        return person

    def change(self, kind: str, id_: str, **fields: Any) -> None:
        """Serve a resource with other fields than the simulator's."""
        path = f"/api/{kind}/{id_}"
        self.resources[path] = {**(self.resources.get(path) or self._made(path)), **fields}

    @property
    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [request.path for request in self.requests]


class ProviderStandIn(StandIn):
    """A provider that keeps its own list of what it accepted, and answers GET from that list.

    Replies in `lost` are given to the next sends instead of its own: the message is accepted, but
    its answer is lost.
    """

    def __init__(
        self,
        accept: Callable[[int], Reply],
        look: Callable[[Request, list[Request]], Reply] | None = None,
    ) -> None:
        super().__init__()
        self._accept = accept
        self._look = look
        self._lock = threading.Lock()
        self.accepted: list[Request] = []
        self.account: dict[str, Reply] = {}  # what is answered about our account, by path
        self.lost: list[Reply] = []

    def default(self, request: Request) -> Reply:
        """Accept everything."""
        with self._lock:
            if request.method == "GET" and request.path in self.account:
                return self.account[request.path]
            if request.method == "GET":
                return self._look(request, self.accepted) if self._look else Reply(404)
            if request.method == "DELETE":
                return Reply(204)
            if request.path.endswith("/erasejob"):
                return Reply(202, {"job_id": "1"})
            self.accepted.append(request)
            return self.lost.pop(0) if self.lost else self._accept(len(self.accepted))

    @property
    def looks(self) -> int:
        """How often it was asked for its list."""
        return sum(request.method == "GET" for request in self.requests)

    @classmethod
    def twilio(cls) -> Self:
        """Twilio's Messages resource."""

        def accept(number: int) -> Reply:
            body = {
                "sid": f"SM{number:032x}",
                "status": "queued",
                "error_code": None,
                "error_message": None,
                "num_segments": "1",
                "direction": "outbound-api",
            }
            return Reply(201, body, {"Content-Type": "application/json"})

        made = cls(accept, twilio_list)
        sid = "AC" + "0" * 32
        made.account[f"/2010-04-01/Accounts/{sid}.json"] = Reply(
            200,
            {"sid": sid, "status": "active", "friendly_name": "A clinic", "type": "Full"},
            {"Content-Type": "application/json"},
        )
        return made

    @classmethod
    def sendgrid(cls) -> Self:
        """SendGrid's mail/send."""
        made = cls(lambda number: Reply(202, b"", {"X-Message-Id": f"sg-{number}"}))
        dns = {"host": "s1._domainkey.harbour.clinic", "type": "cname", "data": "", "valid": True}
        named = {"domain": "harbour.clinic", "subdomain": "em", "username": "clinic", "ips": []}
        kinds = {"default": True, "automatic_security": True, "custom_spf": False, "legacy": False}
        records = {name: dns for name in ("mail_cname", "dkim1", "dkim2")}
        domains = [{"id": 1, "user_id": 1, "valid": True, "dns": records, **named, **kinds}]
        made.account["/v3/scopes"] = Reply(200, {"scopes": ["mail.send", "user.email.read"]})
        made.account["/v3/whitelabel/domains"] = Reply(200, domains)
        return made


def twilio_list(asked: Request, accepted: list[Request]) -> Reply:
    """Twilio's list of messages to a number, the newest first, on one page; or one by its id."""
    path = urlsplit(asked.path).path
    folder, _, sid = path.removesuffix(".json").partition("/Messages")
    found = [
        {
            "sid": f"SM{number:032x}",
            "account_sid": path.split("/")[3],
            "to": request.form["To"],
            "from": request.form.get("From"),
            "messaging_service_sid": request.form.get("MessagingServiceSid"),
            "body": request.form["Body"],
            "status": "sent",
            "direction": "outbound-api",
            "error_code": None,
            "error_message": None,
            "num_segments": "1",
            "num_media": "0",
            "date_created": format_datetime(request.at),
            "date_sent": format_datetime(request.at),
            "date_updated": format_datetime(request.at),
            "uri": f"{folder}/Messages/SM{number:032x}.json",
        }
        for number, request in enumerate(accepted, 1)
        if request.form["To"] == asked.query.get("To", request.form["To"])
    ]
    if sid:
        one = next((text for text in found if text["sid"] == sid[1:]), None)
        return Reply(200, one, {"Content-Type": "application/json"}) if one else Reply(404)
    body = {
        "first_page_uri": asked.path,
        "next_page_uri": None,
        "previous_page_uri": None,
        "uri": asked.path,
        "page": 0,
        "page_size": 50,
        "start": 0,
        "end": len(found),
        "messages": found[::-1],
    }
    return Reply(200, body, {"Content-Type": "application/json"})


def twilio_error(status: int, code: int, **headers: str) -> Reply:
    """An error answer as Twilio words it."""
    body = {
        "code": code,
        "message": "The message could not be sent.",
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return Reply(status, body, {"Content-Type": "application/json", **headers})
