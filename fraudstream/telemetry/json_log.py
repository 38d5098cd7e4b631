"""Logs on stderr: one JSON object or one line of text a message, so that none can forge a line.

This project's loggers begin at the level of `FRAUD_LOG_LEVEL`, those of libraries at WARNING:
their INFO lines (25 of the Kafka client at each start) bury the one that matters. What libraries
say is bounded, and told without what callers wrote (`library_lines`).
"""

from __future__ import annotations

import json
import logging
import sys
import time
from textwrap import indent
from typing import Final

from fraudstream.card_data.detector import mask
from fraudstream.settings import LogSettings
from fraudstream.telemetry.library_lines import LibraryLines

_OURS: Final = ("fraudstream", "services")


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
            "message": mask(record.getMessage()),
        }
        if record.exc_info:
            line["trace"] = mask(self.formatException(record.exc_info))
        return json.dumps(line)


class TextFormatter(logging.Formatter):
    """Formats a log record as text for people; anything like a card number is starred out.

    A line begins with its time; a trace follows in lines of its own that begin with blanks.
    """

    def __init__(self, service: str) -> None:
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        r"""Return the line.

        >>> found = logging.LogRecord("n", logging.INFO, "", 0, "two" + chr(10) + "lines", (), None)
        >>> found.created = 0.0
        >>> TextFormatter("ingest").format(found)
        '1970-01-01T00:00:00Z INFO ingest n: two\\nlines'
        """
        moment = self.formatTime(record, self.datefmt)
        message = "".join(map(_printable, mask(record.getMessage())))
        line = f"{moment} {record.levelname} {self._service} {record.name}: {message}"
        if record.exc_info:
            line += "\n" + indent(mask(self.formatException(record.exc_info)), "    ")
        return line


def _printable(mark: str) -> str:
    return mark if mark.isprintable() else mark.encode("unicode_escape").decode()


def start_log(service: str) -> None:
    """Send the process's logs to stderr as `FRAUD_LOG_LEVEL` and `FRAUD_LOG_FORMAT` say.

    Raises:
        InvalidSettings: One of them is none that is known.
    """
    settings = LogSettings.read()
    handler = logging.StreamHandler(sys.stderr)
    formatters = {"json": JsonFormatter, "text": TextFormatter}
    handler.setFormatter(formatters[settings.format](service))
    handler.addFilter(LibraryLines(_OURS))
    level = logging.getLevelNamesMapping()[settings.level]
    others = logging.DEBUG if level == logging.DEBUG else max(level, logging.WARNING)
    logging.basicConfig(level=others, handlers=[handler], force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
