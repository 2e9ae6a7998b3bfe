"""Which request is being answered, for what is logged on the way.

Threads that answer a part of it know it as well (``asyncio.to_thread`` copies the context).
"""

from __future__ import annotations

from contextvars import ContextVar

REQUEST_ID: ContextVar[str] = ContextVar("mlserve_request_id", default="")
"""Set by :meth:`mlserve_jupyter.server.resource.Resource.prepare`; empty outside of requests."""
