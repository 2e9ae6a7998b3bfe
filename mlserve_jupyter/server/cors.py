"""Which other origins' pages may call, each by its exact name, and never with cookies."""

from __future__ import annotations

from tornado.web import RequestHandler

ALLOWED_HEADERS = "Authorization, Content-Type, X-MLServe-Key, X-Request-Id"
EXPOSED_HEADERS = "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, X-Request-Id"
MAX_AGE_S = 600


def allowed_origin(handler: RequestHandler, origins: tuple[str, ...]) -> str | None:
    """Return the request's origin if it is one of those that may call."""
    origin = handler.request.headers.get("Origin")
    return origin if origin in origins else None


def set_cors_headers(handler: RequestHandler, origins: tuple[str, ...]) -> None:
    """Tell the browser that the page may read the answer, if it may."""
    handler.add_header("Vary", "Origin")
    origin = allowed_origin(handler, origins)
    if origin is not None:
        handler.set_header("Access-Control-Allow-Origin", origin)
        handler.set_header("Access-Control-Expose-Headers", EXPOSED_HEADERS)


def answer_preflight(handler: RequestHandler, origins: tuple[str, ...], methods: list[str]) -> None:
    """Tell the browser what the page may send here, if it may send anything."""
    if allowed_origin(handler, origins) is not None:
        handler.set_header("Access-Control-Allow-Methods", ", ".join(methods))
        handler.set_header("Access-Control-Allow-Headers", ALLOWED_HEADERS)
        handler.set_header("Access-Control-Max-Age", str(MAX_AGE_S))
