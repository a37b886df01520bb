"""Serves a trained model as a page with an API.

python -m demo.app --workdir=runs/mine [--share] [--auth=user:password]
"""

import importlib.util
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags

from demo import surroundings
from trainer import cli
from trainer.errors import UserError

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The finished run. Default: the newest under runs/."
)
_PORT = flags.DEFINE_integer(
    "port", 7860, "Port to listen on; if it is in use, the next free one.", 1, 65535
)
_ADDRESS = flags.DEFINE_string(
    "address",
    "127.0.0.1",
    "Address to bind to; 0.0.0.0 lets others on the network in, with a login.",
)
_SHARE = flags.DEFINE_boolean(
    "share", False, "Make a public link through Gradio's servers, with a login."
)
_AUTH = flags.DEFINE_string(
    "auth",
    None,
    "user:password. Default: no login on this machine alone, else a new password, printed. "
    "none: no login, anyone who reaches the page can use it.",
)
_ROOT_PATH = flags.DEFINE_string(
    "root_path",
    "",
    "Path of the page behind a reverse proxy, as /xray of https://HOST/xray. Or that whole URL, "
    "where the proxy removes the path and does not forward the host.",
)
_FLAG_DIR = flags.DEFINE_string(
    "flag_dir", None, "Store disagreements here, after consent. Default: they are not stored."
)
_MCP = flags.DEFINE_boolean(
    "mcp", False, "Serve the endpoints to language models too (needs pip install 'gradio[mcp]')."
)


def main() -> None:
    """Serves the page until Ctrl-C or SIGTERM."""
    if importlib.util.find_spec("gradio") is None:
        raise UserError("the page needs one more package: pip install '.[demo]'")
    if _MCP.value and importlib.util.find_spec("mcp") is None:
        raise UserError("--mcp needs one more package: pip install 'gradio[mcp]'")
    # Gradio reads both while it is imported.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.pop("GRADIO_SERVER_NAME", None)  # The address is a flag.
    # Gradio calls itself over HTTP when it starts.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Matplotlib warns where its cache cannot be written, and works all the same.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    address = _ADDRESS.value.strip("[]")  # Brackets belong to URLs.
    surroundings.exempt_from_proxies(address, _SHARE.value)
    surroundings.end_as_ctrl_c()
    folder = surroundings.make_private_folder()
    from demo import auth, serving  # imported lazily: slow

    login, login_line = auth.resolve_auth(_AUTH.value, _SHARE.value, address)
    served = serving.open_run(Path(_WORKDIR.value) if _WORKDIR.value else serving.newest_run())
    blocks = _launch(served, login, address, folder / "examples")
    url = surroundings.local_url(address, blocks.server_port)
    lines = [f"{served.folder} is served at {url}", login_line]
    if blocks.share_url:
        lines.append(f"share link (for a week): {blocks.share_url}")
    elif _SHARE.value:
        lines.append(
            "no share link could be made (is this machine online?); "
            "the page is served here all the same"
        )
    print("\n".join(filter(None, lines)), flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        blocks.close(verbose=False)
        print("closed", file=sys.stderr)


def _launch(served: Any, login: tuple[str, str] | None, address: str, examples_folder: Path) -> Any:
    """Starts the server in a thread and returns the page, a `gradio.Blocks`."""
    from starlette.middleware import Middleware

    from demo import auth, middleware, page, theme

    before_routes = Middleware(middleware.AuthMiddleware, closed=login is not None)
    flag_dir = Path(_FLAG_DIR.value).expanduser() if _FLAG_DIR.value else None
    blocks = page.build(served, auth.RateLimit(), examples_folder, flag_dir)
    blocks.queue(max_size=20, default_concurrency_limit=2)
    blocks.launch(
        server_name=surroundings.url_host(address),
        server_port=surroundings.free_port(address, _PORT.value),
        share=_SHARE.value,
        auth=login,
        theme=theme.THEME,
        css=theme.CSS,
        js=theme.PASTE,
        max_file_size=auth.MAX_BYTES,
        allowed_paths=[str(examples_folder)],  # Else only files in Gradio's cache.
        root_path=_root_path(_ROOT_PATH.value),
        mcp_server=_MCP.value or None,
        quiet=True,  # main prints the address
        ssr_mode=False,  # needs Node.js
        show_error=True,
        footer_links=["api"],
        prevent_thread_lock=True,
        app_kwargs={"middleware": [before_routes]},
    )
    return blocks


def _root_path(value: str) -> str:
    if value and not value.startswith(("/", "http://", "https://")):
        raise UserError(f"--root_path={value}: give a path such as /xray, or a URL.")
    return value.rstrip("/")


if __name__ == "__main__":
    cli.run(main)
