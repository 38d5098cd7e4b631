"""Where a fit stands, kept after each epoch, so that one that was ended goes on."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch

from fraudstream.errors import InvalidSettings

_FILE: Final = "checkpoint.pt"


class Checkpoints:
    """The last state of one fit, in a folder.

    Args:
        folder: Made where missing.
        what: Everything that the fit depends on, as text: a state of another fit is refused.

    Raises:
        InvalidSettings: Nothing can be written there.
    """

    def __init__(self, folder: Path, what: str) -> None:
        self._path = folder / _FILE
        self._what = hashlib.sha256(what.encode()).hexdigest()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise _not_kept(folder, exc) from exc

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the state, whole or not at all.

        Raises:
            InvalidSettings: It cannot be written.
        """
        content = io.BytesIO()
        torch.save({"what": self._what, "state": dict(state)}, content)
        try:
            # A name of its own: a second run of the same fit may be here.
            with tempfile.NamedTemporaryFile(
                dir=self._path.parent, prefix=f"{_FILE}.", delete=False
            ) as part:
                part.write(content.getbuffer())
            Path(part.name).replace(self._path)
        except OSError as exc:
            raise _not_kept(self._path, exc) from exc

    def load(self) -> dict[str, Any] | None:
        """Return the state, None where there is none. Nothing in the file is run.

        Raises:
            InvalidSettings: It cannot be read, or is of another fit.
        """
        if not self._path.is_file():
            return None
        try:
            found = torch.load(self._path, weights_only=True)
            what, state = found["what"], dict(found["state"])
        except Exception as exc:  # PyTorch's errors share no base
            msg = f"{self._path}: expected a checkpoint of this release; delete it to start again"
            raise InvalidSettings(msg) from exc
        if what != self._what:
            msg = f"{self._path}: of a fit with other settings or rows; delete it to start again"
            raise InvalidSettings(msg)
        return state


def remove_state(folder: Path) -> None:
    """Remove the state of a fit that is over, and its folder where nothing else is in it."""
    for path in folder.glob(f"{_FILE}*"):  # parts too, which a run that was killed has left
        path.unlink(missing_ok=True)
    remove_empty(folder)


def remove_empty(folder: Path) -> None:
    """Remove a folder if nothing is in it: what others put there is theirs."""
    with suppress(OSError):
        folder.rmdir()


def _not_kept(path: Path, exc: OSError) -> InvalidSettings:
    return InvalidSettings(f"{path}: the state of a fit cannot be kept there: {exc.strerror}")
