"""What the server says on stderr: one line a message, in which line breaks are escaped."""

from __future__ import annotations

import logging


class OneLine(logging.Formatter):
    """Writes a message on one line, whatever a client has put into it; tracebacks as they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format a record without its traceback."""
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")


def log_to_stderr(level: int, log_style: str) -> None:
    """Send everything that is logged to stderr, as ``text`` or as ``json``."""
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(log_style))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(max(level, logging.WARNING))


def _formatter(log_style: str) -> logging.Formatter:
    if log_style == "json":
        from mlserve_jupyter.server.json_log import JsonLines

        return JsonLines()
    return OneLine("[%(levelname).1s %(asctime)s %(process)d %(name)s] %(message)s")
