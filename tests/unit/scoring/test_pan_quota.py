"""The quota of card numbers: a bucket for each caller, refilled by time."""

from __future__ import annotations

import pytest

from fraudstream.errors import QuotaExceeded
from services.scoring.authorise.pan_quota import PanQuota


def test_burst_is_spent_and_refilled_by_time() -> None:
    """Two at once, then two a second: half a second later there is one more."""
    now_s = [100.0]
    quota = PanQuota(2.0, 2, lambda: now_s[0])
    quota.take("a")
    quota.take("a")
    with pytest.raises(QuotaExceeded, match=r"a brings more than 2 .* try again in 500 ms"):
        quota.take("a")

    now_s[0] += 0.5
    quota.take("a")

    with pytest.raises(QuotaExceeded):
        quota.take("a")


def test_quota_of_one_caller_is_not_anothers() -> None:
    """Whoever spends its own leaves the others theirs."""
    quota = PanQuota(1.0, 1, lambda: 0.0)
    quota.take("a")

    quota.take("b")

    with pytest.raises(QuotaExceeded):
        quota.take("a")


def test_bucket_holds_no_more_than_the_burst() -> None:
    """A quiet night is no reserve for a flood."""
    now_s = [0.0]
    quota = PanQuota(1_000.0, 3, lambda: now_s[0])
    quota.take("a")
    now_s[0] = 3_600.0

    for _ in range(3):
        quota.take("a")

    with pytest.raises(QuotaExceeded):
        quota.take("a")
