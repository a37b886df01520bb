"""Login and rate limit of the page, without Gradio; the clock is an argument.

login, line = auth.resolve_auth(None, share=True, address="127.0.0.1")
auth.RateLimit().enter("a caller")
"""

import secrets
import threading
import time
from collections.abc import Callable

from trainer.errors import UserError

MAX_BYTES = "20mb"
_LOCAL_ADDRESSES = ("127.0.0.1", "localhost", "::1")


def resolve_auth(
    setting: str | None, share: bool, address: str
) -> tuple[tuple[str, str] | None, str]:
    """Chooses the login of a page.

    Args:
      setting: user:password; "none"; or None to choose by the other arguments.
      share: whether a public link is made.
      address: the page's address.

    Returns:
      ((user, password) or None for no login, a line to print).

    Raises:
      UserError: `setting` is neither.
    """
    public = share or address not in _LOCAL_ADDRESSES
    if setting is None and public:
        password = secrets.token_urlsafe(12)
        return ("guest", password), f"login for this run: user guest, password {password}"
    if setting in (None, "none"):
        warning = "No login: anyone who reaches this page can use it and send images to it."
        return None, warning if public else ""
    user, _, password = setting.partition(":")
    if not (user and password):
        raise UserError("--auth: give user:password, or none.")
    return (user, password), ""


class RateLimit:
    """Limit on the calls of each caller over a sliding window.

    Args:
      calls: allowed in one window.
      seconds: length of the window.
      clock: returns seconds, rising.
    """

    def __init__(
        self,
        calls: int = 60,
        seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._calls = calls
        self._seconds = seconds
        self._clock = clock
        self._times: dict[str, list[float]] = {}  # caller → times of calls
        self._lock = threading.Lock()  # Gradio runs handlers in threads.

    def enter(self, caller: str, cost: int = 1) -> None:
        """Records calls of a caller, or refuses them all.

        Args:
          caller: the login, else the session: behind a share link all visitors have one address.
          cost: number of calls, 0 or more.

        Raises:
          UserError: the calls are too many; none is recorded.
        """
        now = self._clock()
        with self._lock:
            # Callers that are gone must not fill the memory.
            recent = {
                name: [moment for moment in times if moment > now - self._seconds]
                for name, times in self._times.items()
            }
            self._times = {name: times for name, times in recent.items() if times}
            times = self._times.setdefault(caller, [])
            # A first batch is let in whatever its size; serving.MAX_FILES limits that.
            if times and len(times) + cost > self._calls:
                wait = max(1, round(self._seconds - (now - times[0])))
                raise UserError(f"busy: too many images in a short time; try again in {wait} s.")
            times.extend([now] * cost)
