"""Downloads of public data sets from Kaggle, resumed where they stopped.

folder = kaggle.download("owner/name")
"""

import logging
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from trainer import compat
from trainer.data import unpacking
from trainer.errors import UserError

_CONNECT_SECONDS = 5.0
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def download(handle: str) -> Path:
    """Downloads a data set into kagglehub's cache.

    Downloads are anonymous, or use the user's own credentials. An interrupted download continues
    where it stopped.

    Args:
      handle: OWNER/NAME.

    Returns:
      The folder it was unpacked to.

    Raises:
      UserError: Kaggle cannot be reached, or refuses.
    """
    _check_reachable(handle)
    import kagglehub  # Imported lazily: only a download needs it.
    import requests

    logging.getLogger("kagglehub").setLevel(logging.WARNING)
    try:
        return Path(kagglehub.dataset_download(handle))
    except Exception as error:
        # kagglehub, requests and zipfile each raise their own types; the fix is the same.
        if not isinstance(error, OSError):
            # Not the network: the archive is damaged. kagglehub would unpack it again each time.
            for archive in compat.kagglehub_archives(handle):
                archive.unlink()
        if isinstance(error, requests.RequestException) and error.response is None:
            reason = "the connection broke off"
        else:
            reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{handle} could not be downloaded from Kaggle ({reason}); run the command again to go "
            "on."
        ) from error


def locate(manual_dir: Path | None, download_dir: Path, handle: str, tree: str) -> Path:
    """Returns the folder of a set: the given one, else that of the download.

    Args:
      manual_dir: a folder or a zip; None to download the set.
      download_dir: zips are unpacked below it.
      handle: OWNER/NAME on Kaggle.
      tree: description of the expected files, for the message.

    Raises:
      UserError: no source; the message contains the expected tree and the next command.
    """
    if manual_dir is not None:
        if manual_dir.is_file():
            return unpacking.unpack(manual_dir, download_dir / "unpacked")
        return manual_dir
    try:
        return download(handle)
    except UserError as error:
        raise UserError(
            f"{error} Download it by hand from kaggle.com/datasets/{handle} and add "
            f"--manual_dir=FOLDER_OR_ZIP; {tree}"
        ) from error


def _check_reachable(handle: str) -> None:
    # Fails within seconds without a network; kagglehub itself retries for minutes.
    if any(os.environ.get(name) for name in _PROXIES):
        return  # Behind a proxy, a direct connection proves nothing.
    address = urlsplit(compat.kaggle_endpoint())
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname, port), _CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"{handle} cannot be downloaded: {address.hostname} does not answer "
            f"({error.strerror or error})."
        ) from error
