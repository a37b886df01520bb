"""Login of the page: every route of Gradio, called with and without it."""

import re

import gradio as gr
import pytest
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from demo import compat, middleware
from demo.auth import RateLimit

PUBLIC = {
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
LOGIN = {"username": "me", "password": "secret word"}


def create_app(
    login: bool = True,
    logins: RateLimit | None = None,
    queue_size: int = 1,
    root_path: str = "",
) -> gr.routes.App:
    """Creates a page with one endpoint behind the middleware, as demo.app does."""
    with gr.Blocks() as page:
        # The endpoint's answer must not leave without a login.
        gr.Button().click(lambda: "secret", None, gr.Textbox(), api_name="model")
    page.queue(max_size=queue_size)
    # Gradio does these four in `launch`.
    page.root_path = root_path
    page.config = page.get_config_file()
    page.auth = [tuple(LOGIN.values())] if login else None
    page.auth_message = None
    before = Middleware(middleware.AuthMiddleware, closed=login, logins=logins)
    return gr.routes.App.create_app(page, app_kwargs={"middleware": [before]})


def list_routes(app: gr.routes.App) -> set[tuple[str, str]]:
    """Lists (method, path) of every route, the parameters of paths filled in."""
    routes = list(app.routes)
    for route in app.routes:
        # FastAPI wraps the routes below /gradio_api.
        if hasattr(route, "original_router"):
            routes += route.original_router.routes
    pairs = set()
    for route in routes:
        # A mounted application has no path of its own.
        if hasattr(route, "path"):
            path = re.sub(r"\{[^}]*\}", "x", route.path)
            pairs |= {(method, path) for method in getattr(route, "methods", None) or ["GET"]}
    assert len(pairs) > 60, "Gradio's routes were not found"
    return pairs


def test_every_route_but_the_sign_in_page_needs_a_login():
    app = create_app()
    client = TestClient(app, raise_server_exceptions=False)
    # Gradio's server makes this call once when it starts; nobody can make it again.
    assert client.get(compat.STARTUP_PATH).status_code == 200
    statuses = {
        (method, path): client.request(method, path).status_code
        for method, path in list_routes(app)
        if path not in PUBLIC
    }
    assert {route: status for route, status in statuses.items() if status != 401} == {}
    for path in (
        "/gradio_api/heartbeat/abc",  # Gradio leaves these open
        "/gradio_api/cancel",
        "/gradio_api/stream/a/b/c/playlist.m3u8",
        "/gradio_api/queue/data?session_hash=a",
        "/gradio_api/mcp/sse",
        "/assets/../gradio_api/app_id",  # not an asset
    ):
        assert client.get(path).status_code == 401, path
        assert client.post(path, json={}).status_code == 401, path
    # The sign-in page shows nothing of the page behind it.
    page = client.get("/")
    assert page.status_code == 200
    assert "secret" not in page.text.replace("secrets", "")


def test_a_login_opens_the_page_until_logout():
    client = TestClient(create_app())
    assert client.post("/login", data=LOGIN | {"password": "wrong"}).status_code == 400
    assert client.get("/config").status_code == 401
    assert client.post("/login", data=LOGIN).status_code == 200
    assert client.get("/config").status_code == 200
    client.get("/logout")
    assert client.get("/config").status_code == 401
    client.cookies.clear()
    # Guessed tokens do not open it.
    for token in ("", "me", "None", "access-token"):
        client.cookies.set("access-token-unsecure-None", token)
        assert client.get("/config").status_code == 401


@pytest.mark.parametrize("prefix", ["", "/xray"])
def test_a_reverse_proxy_may_remove_the_root_path_or_leave_it(prefix):
    app = create_app(root_path="/xray")
    client = TestClient(app, raise_server_exceptions=False)
    assert client.get(prefix + compat.STARTUP_PATH).status_code == 200
    statuses = {
        (method, path): client.request(method, prefix + path).status_code
        for method, path in list_routes(app)
        if path not in PUBLIC
    }
    assert {route: status for route, status in statuses.items() if status != 401} == {}
    # The root path alone opens nothing.
    for path in ("/xrayconfig", "/xray/xray/config", "/xray/assets/../config", "//xray/config"):
        assert client.get(path).status_code == 401, path
    assert client.get(f"{prefix}/").status_code == 200
    assert client.post(f"{prefix}/login", data=LOGIN).status_code == 200
    assert client.get(f"{prefix}/config").status_code == 200


def test_login_tries_are_limited():
    client = TestClient(create_app(logins=RateLimit(5, 60.0, lambda: 0.0)))
    tries = [client.post("/login", data=LOGIN | {"password": str(number)}) for number in range(6)]
    assert [response.status_code for response in tries] == [400] * 5 + [429]
    assert "try again" in tries[-1].json()["detail"]


@pytest.mark.parametrize("login", [False, True])
def test_a_full_queue_gives_a_clear_message(login):
    # A queue of size 0 is always full.
    with TestClient(create_app(login, queue_size=0)) as client:
        if login:
            client.post("/login", data=LOGIN)
        response = client.post("/gradio_api/call/model", json={"data": []})
    assert response.status_code == 503
    assert "busy" in response.json()["detail"]
    assert "retry-after" in response.headers


def test_a_gradio_without_the_user_route_keeps_the_page_closed():
    from starlette.applications import Starlette

    # An application without any route stands for a later Gradio.
    app = Starlette(middleware=[Middleware(middleware.AuthMiddleware, closed=True)])
    response = TestClient(app).get("/config")
    assert response.status_code == 500
    message = response.json()["detail"]
    assert "no route /gradio_api/user" in message
    assert "pip install" in message
    assert "\n" not in message
