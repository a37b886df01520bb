"""The surroundings of the page: its temporary files, its address, and proxies.

folder = surroundings.make_private_folder()
surroundings.exempt_from_proxies("127.0.0.1", share=False)
port = surroundings.free_port("127.0.0.1", 7860)
"""

import atexit
import contextlib
import errno
import os
import shutil
import signal
import socket
import tempfile
from pathlib import Path

from trainer.errors import UserError

_LOCAL = ("127.0.0.1", "localhost", "::1")


def make_private_folder() -> Path:
    """Makes a folder for this process's temporary files, removed at exit.

    Several users share a machine, and the folder that Gradio would use belongs to the first one.
    `tempfile` uses the folder from now on. Call it before Gradio and Matplotlib are imported: what
    they register for the exit then comes before the removal.

    Raises:
      UserError: no folder for temporary files can be written.
    """
    folder = _make_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "gradio")
    tempfile.tempdir = str(folder)
    return folder


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


def end_as_ctrl_c() -> None:
    """Makes SIGTERM and a closed terminal end the program as Ctrl-C does: in order."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP.
        # Under nohup SIGHUP is ignored, and stays so.
        if number and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def exempt_from_proxies(address: str, share: bool) -> None:
    """Exempts local addresses from the proxies in the environment.

    Gradio calls its own server when it starts, which a proxy cannot reach. Call it before Gradio
    is imported.

    Args:
      address: that the page listens on.
      share: whether a public link is made. Without one the page calls no other machine, and all
        addresses are exempt: Gradio would stop at proxies that it cannot use, such as SOCKS.

    Raises:
      UserError: a public link is made, and the proxies cannot be used.
    """
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host.strip() for host in given.split(",") if host.strip()]
    # 0.0.0.0 and :: listen on all addresses; Gradio calls them by that name.
    exempt = [*_LOCAL, address] if share else [*_LOCAL, address, "*"]
    hosts += [host for host in exempt if host not in hosts]
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(hosts)
    if share:
        _check_proxies()


def _check_proxies() -> None:
    """Creates a client as Gradio does while it is imported."""
    import httpx  # imported lazily: only a public link needs it here

    try:
        httpx.Client().close()
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise UserError(
            f"--share cannot use the proxies in the environment ({error}); correct http_proxy, "
            "https_proxy, all_proxy and no_proxy, or unset them."
        ) from error


def free_port(address: str, first: int) -> int:
    """Returns the first free port of fifty.

    Args:
      address: to bind to, of version 4 or 6, without brackets.
      first: number of the first port.

    Raises:
      UserError: none is free, or the address is not of this machine.
    """
    for port in range(first, min(first + 50, 65536)):
        try:
            _bind(address, port)
            # Gradio binds it too before it starts, whatever the page's address.
            _bind("127.0.0.1", port)
            return port
        except PermissionError as error:
            raise UserError(
                f"--port={port} may not be used ({error.strerror}); give one above 1023."
            ) from error
        except (OSError, UnicodeError) as error:
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                continue
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"--address={address} cannot be used ({reason}); give an address of this machine, "
                "such as 127.0.0.1, ::1, or 0.0.0.0 for all."
            ) from error
    raise UserError(f"no free port from {first} on at {address}; give another --port.")


def _bind(address: str, port: int) -> None:
    """Binds an address for a moment, as the server will.

    Raises:
      OSError: the port is in use, or the address is not of this machine.
    """
    if "%" in address:
        raise OSError(errno.EINVAL, "URLs have no zones")
    for family, kind, _, _, where in socket.getaddrinfo(address, port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind) as trial:
            # A port is free although connections of the last server linger in TIME_WAIT.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            trial.bind(where)


def url_host(address: str) -> str:
    """Returns an address as URLs have it: an IPv6 address in brackets."""
    return f"[{address}]" if ":" in address else address


def local_url(address: str, port: int) -> str:
    """Returns the URL of the page for a browser on this machine."""
    every = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # All addresses are no address to call.
    return f"http://{url_host(every.get(address, address))}:{port}/"
