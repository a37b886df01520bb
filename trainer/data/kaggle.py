"""Downloads of public data sets from Kaggle, resumed where they stopped.

folder = kaggle.download("owner/name")
"""

import logging
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from trainer import compat
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
