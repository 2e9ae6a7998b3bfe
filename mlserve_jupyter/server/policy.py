"""Who may call a route: declared beside each method, enforced in one place before it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from tornado.web import RequestHandler

Method = TypeVar("Method", bound=Callable[..., Any])  # any handler method, whatever it takes

MODELS = "mlserve:models"
PREDICTIONS = "mlserve:predictions"


@dataclass(frozen=True)
class Policy:
    """What a method asks of its caller.

    Attributes
    ----------
    action, resource
        What Jupyter's authorizer is asked, in its words: ``read``, ``write`` or ``execute``.
    is_public
        Whether anybody may call.
    """

    action: str
    resource: str
    is_public: bool = False


PUBLIC = Policy("read", "mlserve:health", is_public=True)


def requires(action: str, resource: str) -> Callable[[Method], Method]:
    """Declare what a caller must be allowed to do."""
    return _declare(Policy(action, resource))


def public(method: Method) -> Method:
    """Declare that anybody may call."""
    return _declare(PUBLIC)(method)


def policy_of(method: Any) -> Policy | None:
    """Return what was declared for a handler's method (of any signature, hence ``Any``)."""
    found = getattr(method, "__mlserve_policy__", None)
    return found if isinstance(found, Policy) else None


def check_policies(handlers: Iterable[type[RequestHandler]]) -> None:
    """Refuse to start with a method that has no policy.

    Raises
    ------
    RuntimeError
        Naming the handler and the method.
    """
    for handler in handlers:
        for name in RequestHandler.SUPPORTED_METHODS:
            method = getattr(handler, name.lower())
            is_implemented = method is not getattr(RequestHandler, name.lower())
            if is_implemented and policy_of(method) is None:
                raise RuntimeError(f"{handler.__name__}.{name.lower()} has no policy.")


def _declare(policy: Policy) -> Callable[[Method], Method]:
    def decorate(method: Method) -> Method:
        # Jupyter's own check at the door lets these through; `Resource.prepare` asks instead.
        vars(method)["__allow_unauthenticated"] = True
        vars(method)["__mlserve_policy__"] = policy
        return method

    return decorate
