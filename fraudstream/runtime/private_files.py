"""Files of ours are for our user and group: transactions, models, logs and databases."""

from __future__ import annotations

import os
from typing import Final

# A group may read: the archive's readers, and Kubernetes' `fsGroup`.
_KEPT_FROM_OTHERS: Final = 0o027


def keep_files_private() -> None:
    """Have this process and its children make no file that other users can read or write.

    Each program calls it first. A stricter mask of the caller's stays.

    >>> before = os.umask(0o022)
    >>> keep_files_private()
    >>> oct(os.umask(before))
    '0o27'
    """
    os.umask(os.umask(_KEPT_FROM_OTHERS) | _KEPT_FROM_OTHERS)
