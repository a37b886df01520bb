"""The door itself: one middleware before every route. Gradio's own check leaves streams, heartbeats and cancelling open."""

import json
from typing import Any

from demo.doors import RateLimit
from trainer.errors import UserError

_PAGE = (
    "/",
    "/login",
    "/login/",
    "/favicon.ico",
    "/manifest.json",
    "/robots.txt",
    "/theme.css",
    "/gradio_api/theme.css",
)
_ASSETS = ("/assets/", "/static/", "/svelte/", "/pwa_icon")
_STARTING = "/gradio_api/startup-events"
_LOGINS, _SECONDS = 30, 60.0
_BUSY = {
    "detail": "busy: too many are waiting; try again in a moment.",
    "error": "busy: try again in a moment.",
}


class Gate:
    """ASGI middleware (https://asgi.readthedocs.io): without a login only the sign-in page and its assets are answered.

    A full queue is answered 503 with words that say what to do; tries to log in are limited, for all callers together.

    Args:
      app: what it stands before: Gradio's FastAPI application.
      closed: whether a login is asked for.
      logins: how often one may try.
    """

    def __init__(self, app: Any, closed: bool, logins: RateLimit | None = None):
        self._app, self._closed = app, closed
        self._logins = logins or RateLimit(_LOGINS, _SECONDS)

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Answers 401, 429 or 503, or lets the request through."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        path = scope["path"]
        if self._closed:
            if path.rstrip("/") == "/login":
                try:
                    self._logins.enter("login")
                except UserError:
                    return await _answer(
                        send,
                        429,
                        {"detail": "busy: too many tries to log in; try again in a minute."},
                    )
            elif not _is_open(path, scope["app"]) and _user(scope) is None:
                if scope["type"] == "websocket":
                    return await send({"type": "websocket.close", "code": 1008})
                return await _answer(send, 401, {"detail": "log in first."})
        return await self._app(scope, receive, _with_clear_refusal(send))


def _is_open(path: str, app: Any) -> bool:
    """The sign-in page and its assets; and, once, what the server calls on itself when it starts."""
    if ".." in path:
        return False
    starts = path == _STARTING and not getattr(app, "startup_events_triggered", False)
    return starts or path in _PAGE or path.startswith(_ASSETS)


def _user(scope: dict) -> str | None:
    """Who is logged in, by the cookies Gradio gave out."""
    from starlette.requests import cookie_parser

    app, cookies = scope["app"], {}
    for name, value in scope["headers"]:
        if name == b"cookie":
            cookies |= cookie_parser(value.decode("latin-1"))
    for kind in ("access-token", "access-token-unsecure"):
        token = cookies.get(f"{kind}-{app.cookie_id}")
        if token and token in app.tokens:
            return app.tokens[token]
    return None


def _with_clear_refusal(send: Any) -> Any:
    refused = False

    async def sent(message: dict) -> None:
        nonlocal refused
        if message["type"] == "http.response.start" and message["status"] == 503:
            refused = True
            return await _answer(send, 503, _BUSY)
        if not refused:
            await send(message)

    return sent


async def _answer(send: Any, status: int, content: dict) -> None:
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status in (429, 503):
        headers.append((b"retry-after", b"5"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
