"""The door of the page: every route Gradio has, called without a login."""

import re

import gradio as gr
import pytest
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from demo import gate
from demo.doors import RateLimit

OPEN = {
    "/",
    "/login",
    "/login/",
    "/favicon.ico",
    "/manifest.json",
    "/robots.txt",
    "/theme.css",
    "/gradio_api/theme.css",
    "/assets/x",
    "/static/x",
    "/svelte/x",
    "/pwa_icon",
    "/pwa_icon/x",
}


def served(login: tuple[str, str] | None, logins: RateLimit | None = None) -> gr.routes.App:
    """A page with one endpoint behind the gate, as demo.app puts it there."""
    with gr.Blocks() as page:
        said = gr.Textbox()
        gr.Button().click(lambda: "secret", None, said, api_name="model")
    page.queue(max_size=1)
    page.config = page.get_config_file()
    page.auth, page.auth_message = [login] if login else None, None
    behind = Middleware(gate.Gate, closed=login is not None, logins=logins)
    app = gr.routes.App.create_app(page, app_kwargs={"middleware": [behind]})
    app.startup_events_triggered = True
    return app


def routes(app) -> set[tuple[str, str]]:
    """(method, path) of each, its parameters filled in."""
    every = [
        *app.routes,
        *(
            route
            for part in app.routes
            if hasattr(part, "original_router")
            for route in part.original_router.routes
        ),
    ]
    found = {
        (method, re.sub(r"\{[^}]*\}", "x", route.path))
        for route in every
        if hasattr(route, "path")
        for method in getattr(route, "methods", None) or ["GET"]
    }
    assert len(found) > 60, "Gradio's routes were not found"
    return found


def test_without_a_login_every_route_but_the_sign_in_page_is_closed():
    app = served(("me", "secret word"))
    client = TestClient(app, raise_server_exceptions=False)
    answered = {
        (method, path): client.request(method, path).status_code
        for method, path in routes(app)
        if path not in OPEN
    }
    assert {place: status for place, status in answered.items() if status != 401} == {}
    for path in (
        "/gradio_api/heartbeat/abc",
        "/gradio_api/cancel",
        "/gradio_api/stream/a/b/c/playlist.m3u8",
        "/gradio_api/queue/data?session_hash=a",
        "/gradio_api/mcp/sse",
        "/assets/../gradio_api/app_id",
    ):
        assert client.get(path).status_code == 401, path
        assert client.post(path, json={}).status_code == 401, path
    page = client.get("/")
    assert page.status_code == 200 and "secret" not in page.text.replace("secrets", "")


def test_with_a_login_it_opens_and_after_logging_out_it_closes():
    client = TestClient(served(("me", "secret word")))
    assert client.post("/login", data={"username": "me", "password": "wrong"}).status_code == 400
    assert client.get("/config").status_code == 401
    assert (
        client.post("/login", data={"username": "me", "password": "secret word"}).status_code == 200
    )
    assert client.get("/config").status_code == 200
    client.get("/logout")
    assert client.get("/config").status_code == 401
    client.cookies.clear()
    for token in ("", "me", "None", "access-token"):
        client.cookies.set("access-token-unsecure-None", token)
        assert client.get("/config").status_code == 401


def test_passwords_cannot_be_tried_without_end():
    client = TestClient(served(("me", "secret word"), RateLimit(5, 60.0, lambda: 0.0)))
    tries = [
        client.post("/login", data={"username": "me", "password": str(number)})
        for number in range(6)
    ]
    assert [found.status_code for found in tries] == [400] * 5 + [429]
    assert "try again" in tries[-1].json()["detail"]


@pytest.mark.parametrize("closed", [False, True])
def test_a_full_queue_is_said_in_words(closed):
    app = served(("me", "secret word") if closed else None)
    with TestClient(app) as client:
        if closed:
            client.post("/login", data={"username": "me", "password": "secret word"})
        app.get_blocks()._queue.max_size = 0
        answer = client.post("/gradio_api/call/model", json={"data": []})
    assert (
        answer.status_code == 503
        and "busy" in answer.json()["detail"]
        and "retry-after" in answer.headers
    )
