"""Middleware before every route of the page: login, limit on login tries, clear 503.

Gradio's own check leaves streams, heartbeats and cancelling open.

    blocks.launch(app_kwargs={"middleware": [Middleware(AuthMiddleware, closed=True)]})
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from demo import auth, compat
from trainer.errors import UserError

_Send = Callable[[dict[str, Any]], Awaitable[None]]

# The sign-in page and its assets.
_PUBLIC_PATHS = (
    "/",
    "/favicon.ico",
    "/manifest.json",
    "/robots.txt",
    "/theme.css",
    "/gradio_api/theme.css",
)
_PUBLIC_FOLDERS = ("/assets/", "/static/", "/svelte/", "/pwa_icon")


class AuthMiddleware:
    """ASGI middleware that serves only the sign-in page to those without a login.

    A full queue is answered with 503 and a clear message. See https://asgi.readthedocs.io.

    Args:
      app: Gradio's application.
      closed: whether a login is required.
      logins: limit on tries to log in, of all callers together; by default 30 a minute.
    """

    def __init__(self, app: Any, closed: bool, logins: auth.RateLimit | None = None):
        self._app = app
        self._closed = closed
        self._logins = logins or auth.RateLimit(calls=30)
        self._started = False

    async def __call__(self, scope: dict[str, Any], receive: Any, send: _Send) -> None:
        """Answers 401, 429 or 503, or passes the request on."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        status, detail = await self._check(scope) if self._closed else (200, "")
        if status == 200:
            return await self._app(scope, receive, _explain_full_queue(send))
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        return await _send_json(send, status, {"detail": detail})

    async def _check(self, scope: dict[str, Any]) -> tuple[int, str]:
        # Returns the status of a request, 200 if permitted, and the message.
        path = _path_on_page(scope)
        if path.rstrip("/") == "/login":
            try:
                self._logins.enter("login")
            except UserError:
                return 429, "busy: too many tries to log in; try again in a minute."
            return 200, ""
        # A path with .. could leave a public folder.
        if ".." not in path and (path in _PUBLIC_PATHS or path.startswith(_PUBLIC_FOLDERS)):
            return 200, ""
        if path == compat.STARTUP_PATH and not self._started and scope.get("method") == "GET":
            self._started = True
            return 200, ""
        try:
            user = await compat.signed_in_user(self._app, scope)
        except RuntimeError as error:
            return 500, str(error)  # stays closed
        return (401, "log in first.") if user is None else (200, "")


def _path_on_page(scope: dict[str, Any]) -> str:
    # Without --root_path, which some reverse proxies leave, and which FastAPI adds to the scope.
    path = scope["path"]
    root = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def _explain_full_queue(send: _Send) -> _Send:
    # Replaces Gradio's 503 of a full queue by a message with the remedy.
    replaced = False

    async def send_explained(message: dict[str, Any]) -> None:
        nonlocal replaced
        if message["type"] == "http.response.start" and message["status"] == 503:
            replaced = True
            await _send_json(
                send,
                503,
                {
                    "detail": "busy: too many are waiting; try again in a moment.",
                    "error": "busy: try again in a moment.",  # the page shows this one
                },
            )
        elif not replaced:
            await send(message)

    return send_explained


async def _send_json(send: _Send, status: int, content: dict[str, str]) -> None:
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status in (429, 503):
        headers.append((b"retry-after", b"5"))  # seconds
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
