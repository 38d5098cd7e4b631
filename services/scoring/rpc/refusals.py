"""Says who was refused what, and from where, without letting anybody flood the log.

The first refusal of its kind is a line at once; those after it within a minute are counted, and
their number stands in the next line. So many kinds are told apart at most, and what is more has one
line a minute for each method and reason. The counters have every one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from fraudstream.errors import FraudStreamError, reason_of
from fraudstream.runtime.address_blocks import block_of_peer
from fraudstream.runtime.allowance import Allowance

_LOG: Final = logging.getLogger(__name__)
_MOST_KINDS: Final = 256
_OTHERS: Final = "others"


class _Kind(NamedTuple):
    """What refusals have in common that are counted together."""

    who: str
    peer: str
    method: str
    reason: str


class RefusalLog:
    """Writes a line for each kind of refusal, at most one a minute."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Take a clock, in seconds, that never goes back."""
        self._allowance = Allowance(1, clock_s)

    def note(self, who: str, peer: str, method: str, error: FraudStreamError) -> None:
        """Take note of one refusal.

        Args:
            who: Name of the grant or certificate, or that there was none.
            peer: As gRPC names it; its port is left out.
            method: What was called.
            error: Why it was refused; its message holds no value of a row.
        """
        address = peer.rpartition(":")[0]
        kind = _Kind(who, block_of_peer(address), method, reason_of(error))
        if not self._allowance.has_room(kind, _MOST_KINDS):
            kind = kind._replace(who=_OTHERS, peer=_OTHERS)
        untold = self._allowance.take(kind)
        if untold is None:
            return
        more = f", and {untold} like it before" if untold else ""
        told = kind if kind.peer == _OTHERS else kind._replace(peer=address)
        _LOG.warning("refused %s at %s: %s, %s: %s%s", *told, error, more)
