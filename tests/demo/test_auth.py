"""Login and rate limit of the page."""

import pytest

from demo import auth
from trainer.errors import UserError


@pytest.mark.parametrize(
    ("setting", "share", "address", "user", "line"),
    [
        (None, False, "127.0.0.1", None, ""),
        (None, True, "127.0.0.1", "guest", "password"),  # a share link is public
        (None, False, "0.0.0.0", "guest", "password"),  # so is an address of all interfaces
        ("me:secret", True, "0.0.0.0", "me", ""),
        ("none", True, "127.0.0.1", None, "anyone"),
        ("none", False, "127.0.0.1", None, ""),
    ],
)
def test_a_public_page_requires_a_login(setting, share, address, user, line):
    login, printed = auth.resolve_auth(setting, share, address)
    assert (login[0] if login else None) == user
    assert line in printed
    if user == "guest":
        assert len(login[1]) >= 12
        assert login[1] in printed
        # Every start has a new password.
        assert login != auth.resolve_auth(setting, share, address)[0]


@pytest.mark.parametrize("setting", ["me", "me:", ":secret", ""])
def test_an_incomplete_login_is_refused(setting):
    with pytest.raises(UserError, match="user:password"):
        auth.resolve_auth(setting, False, "127.0.0.1")


def test_the_rate_limit_counts_each_caller_and_expires():
    now = [0.0]
    limit = auth.RateLimit(calls=3, seconds=10, clock=lambda: now[0])
    for _ in range(3):
        limit.enter("a")
    with pytest.raises(UserError, match="try again"):
        limit.enter("a")
    limit.enter("b")
    now[0] = 10.5
    limit.enter("a")
    # A first batch is let in whatever its size; serving.MAX_FILES limits that.
    limit.enter("c", cost=200)
    with pytest.raises(UserError):
        limit.enter("c")
