"""Logs as JSON lines on standard error: one format for every process.

Who calls it: the commands of `app`. A message that is a JSON object already (the canonical line of a cycle) is merged
into its line and not quoted twice.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

QUIET = ("httpx", "httpcore", "kopf", "asyncio", "aiohttp")  # they narrate every request


class Lines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        head: dict[str, object] = {"time": time, "level": record.levelname.lower(), "logger": record.name}
        message = record.getMessage()
        body = _parsed(message) if message.startswith("{") else {"message": message}
        if record.exc_info:
            body["exception"] = self.formatException(record.exc_info)
        return json.dumps({**head, **body}, separators=(",", ":"), default=str)


def configure(level: int = logging.INFO) -> None:
    """Log to standard error from here on."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns that signals are ignored off the main thread; that is why it runs there.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)


def _parsed(message: str) -> dict[str, object]:
    try:
        found = json.loads(message)
    except ValueError:
        return {"message": message}
    return found if isinstance(found, dict) else {"message": message}
