"""A worker of the batch agent with a small handler that writes down what it is given.

Run as `python -m tests.fakes.batch_worker FOLDER NAME`: the journal is FOLDER/journal. A file in
FOLDER changes what the handler does: `fail` makes it raise once, `hold` makes it wait while it is
there, `skip` makes it leave partition 0 unfinished.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from fraudstream.broker.batch_agent import AgentSettings, Finished, Records, batch_app
from fraudstream.broker.faust_process import leave_when_asked, run_until_asked
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED

GROUP = "batch-test"
_LOOK_S = 0.05


class JournalHandler:
    """Writes one line as it begins and ends a poll, and one for each partition's records."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name

    def assigned(self, partitions: set[int]) -> None:
        """Write the assignment down."""
        self._write("assigned", *sorted(partitions))
        self._finished = dict.fromkeys(partitions, 0)

    async def handle(self, records: Records) -> Finished:
        """Write the poll down, as a service would its effects."""
        if not records:
            return dict(self._finished)
        self._write("begin")
        if (self._folder / "fail").exists():
            (self._folder / "fail").unlink()
            self._write("raise")
            msg = "told to fail"
            raise ValueError(msg)
        while (self._folder / "hold").exists():  # noqa: ASYNC110  # told by a file
            await asyncio.sleep(_LOOK_S)
        for partition, chunk in records.items():
            self._write("rows", partition, chunk[0].offset, chunk[-1].offset + 1)
        self._write("end")
        is_skipping = (self._folder / "skip").exists()
        for partition, chunk in records.items():
            self._finished[partition] = chunk[-1].offset + 1
        if is_skipping:
            self._finished.pop(0, None)
        return dict(self._finished)

    def _write(self, *words: object) -> None:
        with (self._folder / "journal").open("a") as journal:
            journal.write(" ".join([self._name, *map(str, words)]) + "\n")


def main(folder: Path, name: str) -> None:
    """Work until a signal."""
    logging.basicConfig(level=logging.INFO)
    leave_when_asked()
    kafka = KafkaSettings.read()
    app = batch_app(
        kafka,
        AgentSettings(kafka.group(GROUP), kafka.topic(ACCEPTED), "", str(folder / f"faust-{name}")),
        JournalHandler(folder, name),
    )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    run_until_asked(app)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
