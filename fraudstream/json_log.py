"""Logs: one JSON object a line on stderr, so that nothing in a message can forge a line."""

from __future__ import annotations

import json
import logging
import sys

from fraudstream.privacy import mask_numbers


class JsonFormatter(logging.Formatter):
    """Formats a log record as one line of JSON; anything like a card number is starred out."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the line.

        >>> found = logging.LogRecord("n", logging.INFO, "", 0, "two" + chr(10) + "lines", (), None)
        >>> chr(10) in JsonFormatter("ingest").format(found)
        False
        """
        line = {
            "time_ms": int(record.created * 1000),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": mask_numbers(record.getMessage()),
        }
        if record.exc_info:
            line["trace"] = mask_numbers(self.formatException(record.exc_info))
        return json.dumps(line)


def log_json(service: str, level: int = logging.INFO) -> None:
    """Send the process's logs to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
