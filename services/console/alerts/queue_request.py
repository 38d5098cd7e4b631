"""Which part of the queue is asked for: order and page, from a list of what is allowed. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

PAGE_SIZE: Final = 50
MAX_PAGE: Final = 200
_PAGE_FORM: Final = re.compile(r"[1-9][0-9]{0,2}")


class QueueOrder(StrEnum):
    """What comes first. Ties are broken by the alert's id, so pages do not shuffle."""

    LOSS = "loss"
    NEWEST = "newest"
    SCORE = "score"

    @property
    def fields(self) -> tuple[str, str]:
        """Return the columns to sort by."""
        return (_COLUMNS[self], "alert_id")


_COLUMNS: Final = {
    QueueOrder.LOSS: "-expected_loss_minor",
    QueueOrder.NEWEST: "-raised_at_ms",
    QueueOrder.SCORE: "-score",
}


@dataclass(frozen=True, slots=True)
class QueueRequest:
    """Which part of the queue to show."""

    order: QueueOrder = QueueOrder.LOSS
    page: int = 1

    @classmethod
    def parse(cls, order: str, page: str) -> Self | None:
        """Read it from a query; None where either is not among what is allowed.

        >>> QueueRequest.parse("loss", "2")
        QueueRequest(order=<QueueOrder.LOSS: 'loss'>, page=2)
        >>> QueueRequest.parse("password", "1") is None
        True
        """
        if order not in list(QueueOrder) or not _PAGE_FORM.fullmatch(page) or int(page) > MAX_PAGE:
            return None
        return cls(QueueOrder(order), int(page))
