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
    import requests

    logging.getLogger("kagglehub").setLevel(logging.WARNING)
    try:
        return Path(kagglehub.dataset_download(handle))
    except (
        Exception
    ) as error:  # kagglehub, requests and zipfile each raise their own; the way out is the same.
        if not isinstance(
            error, OSError
        ):  # Not the network: what came cannot be unpacked, so it must come again.
            _forget_archives(handle)
        broke_off = isinstance(error, requests.RequestException) and error.response is None
        reason = (
            "the connection broke off"
            if broke_off
            else (str(error) or type(error).__name__).splitlines()[0]
        )
        raise UserError(
            f"{handle} could not be downloaded from Kaggle ({reason}); run the command again to go "
            "on."
        ) from error


def _forget_archives(handle: str) -> None:
    """Deletes what is downloaded but not unpacked; kagglehub would try to unpack it again for ever."""
    from kagglehub import cache
    from kagglehub.handle import parse_dataset_handle

    for path in Path(
        cache.get_cached_archive_path(parse_dataset_handle(handle).with_version(1))
    ).parent.glob("*.archive"):
        path.unlink()


def _check_reachable(handle: str) -> None:
    """Fails in seconds where there is no network; kagglehub itself would try again for minutes."""
    from kagglesdk.kaggle_env import get_endpoint, get_env

    address = urlsplit(get_endpoint(get_env()))
    if any(
        os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    ):
        return  # Behind a proxy a direct connection says nothing.
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname, port), _SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise UserError(
            f"{handle} cannot be downloaded: {address.hostname} does not answer "
            f"({error.strerror or error})."
        ) from error
