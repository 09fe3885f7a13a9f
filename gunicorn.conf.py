"""gunicorn's settings. The platform's WEB_CONCURRENCY and PORT are obeyed."""

import os
from urllib.parse import unquote

from gunicorn.glogging import Logger

from relay import logs
from relay.config.settings import judge

_development = os.environ.get("RELAY_ENV") == "development"

bind = f"{'127.0.0.1' if _development else '0.0.0.0'}:{os.environ.get('PORT', '8000')}"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "relay.web.gathering_worker.GatheringWorker"
threads = 4
preload_app = True
timeout = 30
graceful_timeout = 20
keepalive = 75
control_socket_disable = True
accesslog = None
loglevel = os.environ.get("LOG_LEVEL", "info").lower()
_secrets = judge(os.environ)[0].webhook_secrets


def _redacted(text: str) -> str:
    """`text` without the secret of a webhook's path, however the path was written."""
    text = logs.without_secrets(text)
    plain = unquote(text)
    return "[secret]" if any(secret in plain for secret in _secrets) else text


def pre_request(worker, req):  # noqa: ANN001, ANN201
    """Say nothing of a request that has come: gunicorn would log its path at DEBUG."""


def post_worker_init(worker):  # noqa: ANN001, ANN201
    """Wake a worker now, and every half a minute from now on."""
    if relay := worker.wsgi.extensions.get("relay"):  # the bench's bare app has none
        relay.waker.wake()


class RelayLogger(Logger):
    """What gunicorn says, in the form of all our lines."""

    def setup(self, cfg):  # noqa: ANN001, ANN201
        """Let our own formatter print what gunicorn says of itself."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True

    def access(self, resp, req, environ, request_time):  # noqa: ANN001, ANN201
        """A request, where buildpacks have turned the access log on: to stdout with the others,
        without the secret in a webhook's path, and without query and address, which are somebody's.
        """
        if self.access_log_enabled:
            logs.get_logger("gunicorn.access").info(
                "request",
                method=req.method,
                path=_redacted(req.uri.partition("?")[0]),
                status=int(str(resp.status).split(None, 1)[0]),
                ms=round(request_time.total_seconds() * 1000),
            )


logger_class = RelayLogger
