"""The surroundings of the page: its temporary files, its address, and proxies.

with surroundings.private_folder() as folder:
    surroundings.exempt_from_proxies("127.0.0.1")
"""

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trainer.errors import UserError

_LOCAL = ("127.0.0.1", "localhost", "::1")


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Makes a folder for the files of this run alone, Gradio's among them; removes it at the end.

    Several users share a machine, and the folder that Gradio would use belongs to the first one.
    Call it before Gradio is imported.

    Raises:
      UserError: no folder for temporary files can be written.
    """
    folder = _make_folder()
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "gradio")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_folder() -> Path:
    prefix = "chest-radiograph-page-"
    given = os.environ.get("GRADIO_TEMP_DIR")
    if given:
        with contextlib.suppress(OSError):
            return Path(tempfile.mkdtemp(prefix=prefix, dir=given))
    try:
        return Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        raise UserError(
            f"no folder for temporary files can be written ({error.strerror}); set TMPDIR to one."
        ) from error


def exempt_from_proxies(address: str) -> None:
    """Exempts local addresses from the proxies in the environment.

    Gradio calls its own server when it starts, which a proxy cannot reach.

    Args:
      address: that the page listens on.
    """
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host.strip() for host in given.split(",") if host.strip()]
    # 0.0.0.0 and :: listen on all addresses; Gradio calls them by that name.
    hosts += [host for host in (*_LOCAL, address) if host not in hosts]
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(hosts)


def free_port(address: str, first: int) -> int:
    """Returns the first free port of fifty.

    Args:
      address: to bind to, of version 4 or 6.
      first: number of the first port.

    Raises:
      UserError: none is free, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in range(first, min(first + 50, 65536)):
        with socket.socket(family) as trial:
            # A port is free although connections of the last server linger in TIME_WAIT.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((address, port))
                return port
            except PermissionError as error:
                raise UserError(
                    f"--port={port} may not be used ({error.strerror}); give one above 1023."
                ) from error
            except OSError:
                continue
    raise UserError(f"no free port from {first} on at {address}; give another --port or --address.")


def url_host(address: str) -> str:
    """Returns an address as URLs have it: an IPv6 address in brackets."""
    return f"[{address}]" if ":" in address else address


def local_url(address: str, port: int) -> str:
    """Returns the URL of the page for a browser on this machine."""
    every = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # All addresses are no address to call.
    return f"http://{url_host(every.get(address, address))}:{port}/"
