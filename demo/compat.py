"""Uses of Gradio that its documentation does not cover, each with a check.

user = await compat.signed_in_user(gradio_app, scope)
"""

import json
from importlib import metadata
from typing import Any

# Gradio's server calls it once when it starts.
STARTUP_PATH = "/gradio_api/startup-events"
_USER_PATH = "/gradio_api/user"


async def signed_in_user(app: Any, scope: dict[str, Any]) -> str | None:
    """Asks Gradio for the user that a request's cookies belong to (Gradio 6.31.0).

    Gradio stores its sessions in private attributes of the app. The route reads them, and it is the
    same check that Gradio's other routes depend on.

    Args:
      app: the ASGI application with Gradio's routes.
      scope: of the request, "http" or "websocket".

    Returns:
      The user's name; None without a login.

    Raises:
      RuntimeError: this version of Gradio has no such route.
    """
    question = scope | {
        "type": "http",
        "method": "GET",
        "path": _USER_PATH,
        "raw_path": _USER_PATH.encode(),
        "query_string": b"",
        # Cookies only: a body's length does not belong to a GET.
        "headers": [header for header in scope["headers"] if header[0] == b"cookie"],
    }
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await app(question, receive, send)
    if messages[0]["status"] != 200:
        raise RuntimeError(
            f"gradio {metadata.version('gradio')} has no route {_USER_PATH} any more; install the "
            "version that requirements.lock names: pip install -r requirements.lock"
        )
    return json.loads(b"".join(message.get("body", b"") for message in messages))
