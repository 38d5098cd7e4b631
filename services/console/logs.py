"""Log lines as JSON on stderr, one object a line; whatever looks like a card number is masked."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from fraudstream.privacy import mask_numbers


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": mask_numbers(record.getMessage()),
        }
        if record.exc_info:
            line["traceback"] = mask_numbers(self.formatException(record.exc_info))
        return json.dumps(line)


def log_as_json() -> None:
    """Send all log records to stderr as JSON lines, Kafka's own chatter only from errors on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("kafka").setLevel(logging.ERROR)
