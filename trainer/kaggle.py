"""Downloads a public data set from Kaggle, resuming what was begun."""

import logging
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from trainer.errors import UserError

_SECONDS_TO_ANSWER = 5.0


def download(handle: str) -> Path:
    """Downloads a data set (anonymously, or with the user's own credentials) into kagglehub's cache.

    An interrupted download goes on where it stopped.

    Args:
      handle: OWNER/NAME.

    Returns:
      The folder it was unpacked to.

    Raises:
      UserError: Kaggle cannot be reached, or refuses.
    """
    _check_reachable(handle)
    import kagglehub

    logging.getLogger("kagglehub").setLevel(logging.WARNING)
    try:
        return Path(kagglehub.dataset_download(handle))
    except KeyboardInterrupt:
        raise
    except Exception as error:  # kagglehub, requests and zipfile each raise their own; the way out is the same.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{handle} could not be downloaded from Kaggle ({reason}); run the command again to go on.") from error


def _check_reachable(handle: str) -> None:
    """Fails in seconds where there is no network; kagglehub itself would try again for minutes."""
    from kagglesdk.kaggle_env import get_endpoint, get_env

    address = urlsplit(get_endpoint(get_env()))
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return  # Behind a proxy a direct connection says nothing.
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname, port), _SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise UserError(f"{handle} cannot be downloaded: {address.hostname} does not answer "
                        f"({error.strerror or error}).") from error
