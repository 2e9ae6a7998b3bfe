"""What the server says: one line a message on stderr, in which line breaks are escaped."""

from __future__ import annotations

import logging


class OneLine(logging.Formatter):
    """Writes a message on one line, whatever a client has put into it; tracebacks as they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format a record without its traceback."""
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")


def log_to_stderr(level: int) -> None:
    """Send everything that is logged to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("[%(levelname).1s %(asctime)s %(process)d %(name)s] %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(max(level, logging.WARNING))
