"""Who comes in, and how much they may send: passwords, rate limits. Pure but for the clock, which is passed in."""

import collections
import secrets
import threading
import time
from collections.abc import Callable

from trainer.errors import UserError

MOST_BYTES = "20mb"
CALLS, SECONDS = 60, 60.0  # So many calls a caller in so much time.
LOCAL = ("127.0.0.1", "localhost", "::1")


def auth_of(wanted: str | None, share: bool, address: str) -> tuple[tuple[str, str] | None, str]:
    """The login a page asks for, and a line to print.

    Args:
      wanted: user:password; none; or None where nothing was said.
      share: whether a public link is made.
      address: the page binds to.

    Returns:
      ((user, password) or None for no login, what to tell whoever starts the page).

    Raises:
      UserError: `wanted` is neither.
    """
    public = share or address not in LOCAL
    if wanted == "none":
        return (
            None,
            "No login: anyone who reaches this page can use it and send images to it."
            if public
            else "",
        )
    if wanted is not None:
        user, colon, password = wanted.partition(":")
        if not (user and colon and password):
            raise UserError("--auth: give user:password, or none.")
        return (user, password), ""
    if not public:
        return None, ""
    password = secrets.token_urlsafe(12)
    return ("guest", password), f"login for this run: user guest, password {password}"


class RateLimit:
    """Counts the calls of each caller over a sliding window.

    Args:
      calls: so many are allowed …
      seconds: … in so much time.
      clock: seconds, rising.
    """

    def __init__(
        self,
        calls: int = CALLS,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._calls, self._seconds, self._clock = calls, seconds, clock
        self._times: dict[str, collections.deque] = {}
        self._lock = threading.Lock()

    def enter(self, caller: str, cost: int = 1) -> None:
        """Notes `cost` calls of a caller (login, else session: behind a share link all visitors have one address).

        Raises:
          UserError: too many; nothing is noted then.
        """
        now = self._clock()
        with self._lock:
            for name in [
                name
                for name, times in self._times.items()
                if not times or times[-1] <= now - self._seconds
            ]:
                del self._times[name]
            times = self._times.setdefault(caller, collections.deque())
            while times and times[0] <= now - self._seconds:
                times.popleft()
            if len(times) + cost > max(self._calls, cost if not times else 0):
                wait = max(1, round(self._seconds - (now - times[0])))
                raise UserError(f"busy: too many images in a short time; try again in {wait} s.")
            times.extend([now] * cost)
