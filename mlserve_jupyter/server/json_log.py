"""What the server says, as JSON: one object a line, with the request that it was said about."""

from __future__ import annotations

import logging
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from mlserve_jupyter.server.request_context import REQUEST_ID


class JsonLines(JsonFormatter):
    """Writes ``time``, ``level``, ``logger``, ``pid``, ``message``, and what else is known.

    That is the id of the request that is being answered, what a message was given as ``extra``, and
    a traceback as ``exc_info``. It needs no arguments, so that ``ServerApp.logging_config`` can
    name it.
    """

    def __init__(self, *of_dict_config: Any, **options: Any) -> None:
        # ``logging.config`` passes a format and more, which have no meaning here; hence ``Any``.
        super().__init__(
            "%(levelname)s %(name)s %(process)d %(message)s",
            rename_fields={"levelname": "level", "name": "logger", "process": "pid"},
            timestamp="time",
        )

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Add the request; the values are whatever was logged, hence ``Any``."""
        super().add_fields(log_data, record, message_dict)
        if request_id := REQUEST_ID.get():
            log_data.setdefault("request_id", request_id)
