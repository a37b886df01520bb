"""Serves a trained model as a page with an API.

python -m demo.app --workdir=runs/mine [--share] [--auth=user:password]
"""

import importlib.util
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from trainer import errors

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The finished run. Default: the newest under runs/."
)
_PORT = flags.DEFINE_integer(
    "port", 7860, "Where to listen; the next free one is taken if it is in use.", 1, 65535
)
_ADDRESS = flags.DEFINE_string(
    "address", "127.0.0.1", "What to bind to; 0.0.0.0 lets others on the network in, with a login."
)
_SHARE = flags.DEFINE_boolean(
    "share", False, "Make a public link through Gradio's servers, with a login."
)
_AUTH = flags.DEFINE_string(
    "auth",
    None,
    "user:password. Default: none on this machine alone, else a fresh password, printed. none: no "
    "login, anyone who reaches the page can use it.",
)
_FLAG_DIR = flags.DEFINE_string(
    "flag_dir", None, "Keep disagreements here, after consent. Default: they are not kept."
)
_MCP = flags.DEFINE_boolean(
    "mcp", False, "Serve the endpoints to language models too (needs pip install 'gradio[mcp]')."
)


def main(argv: Sequence[str]) -> None:
    with errors.reported():
        if len(argv) > 1:
            raise errors.UserError(
                f"'{argv[1]}' is not a flag; settings are given as --name=value, see --help."
            )
        if _MCP.value and importlib.util.find_spec("mcp") is None:
            raise errors.UserError("--mcp needs one more package: pip install 'gradio[mcp]'")
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
        logging.getLogger("httpx").setLevel(
            logging.WARNING
        )  # Gradio greets itself over HTTP; nobody needs to read that.
        from demo import answers, doors

        login, line = doors.auth_of(_AUTH.value, _SHARE.value, _ADDRESS.value)
        served = answers.open_run(Path(_WORKDIR.value) if _WORKDIR.value else answers.newest_run())
        from starlette.middleware import Middleware

        from demo import gate, page

        flag_dir = Path(_FLAG_DIR.value).expanduser() if _FLAG_DIR.value else None
        blocks = page.build(served, doors.RateLimit(), flag_dir).queue(
            max_size=20, default_concurrency_limit=2
        )
        port = _free_port(_ADDRESS.value, _PORT.value)
        _, local, public = blocks.launch(
            server_name=_ADDRESS.value,
            server_port=port,
            share=_SHARE.value,
            auth=login,
            theme=page.THEME,
            css=page.CSS,
            js=page.PASTE,
            max_file_size=doors.MOST_BYTES,
            allowed_paths=[],
            mcp_server=_MCP.value or None,
            quiet=True,
            ssr_mode=False,
            show_error=True,
            footer_links=["api"],
            prevent_thread_lock=True,
            app_kwargs={"middleware": [Middleware(gate.Gate, closed=login is not None)]},
        )
        print(
            "\n".join(
                part
                for part in (f"{served.folder} is served at {local}", line, _shared(public))
                if part
            ),
            flush=True,
        )
        _wait(blocks)


def _shared(public: str | None) -> str:
    if public:
        return f"share link (for a week): {public}"
    return (
        "no share link could be made (is this machine online?); the page is served here all the "
        "same"
        if _SHARE.value
        else ""
    )


def _free_port(address: str, wanted: int) -> int:
    import socket

    for port in range(wanted, min(wanted + 50, 65536)):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((address, port))
                return port
            except PermissionError as error:
                raise errors.UserError(
                    f"--port={port} may not be used ({error.strerror}); give one above 1023."
                ) from error
            except OSError:
                continue
    raise errors.UserError(
        f"no free port from {wanted} on at {address}; give another --port or --address."
    )


def _wait(blocks) -> None:
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # Ends as Ctrl-C does: the server closes, and its cache goes.
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        blocks.close(verbose=False)
        print("closed", file=sys.stderr)


if __name__ == "__main__":
    app.run(main)
