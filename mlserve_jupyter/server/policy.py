"""Who may call a route: declared beside each method, enforced in one place before it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from tornado.web import RequestHandler

from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.api.keys import Scope
from mlserve_jupyter.errors import PermissionDenied

Method = TypeVar("Method", bound=Callable[..., Any])  # any handler method, whatever it takes

Need = Scope | Literal["account"]
"""What a credential must be good for; ``account`` is what an account does for itself."""

MODELS = "mlserve:models"
PREDICTIONS = "mlserve:predictions"
ACCOUNTS = "mlserve:accounts"
METRICS = "mlserve:metrics"


@dataclass(frozen=True)
class Policy:
    """What a method asks of its caller.

    Attributes
    ----------
    action, resource
        What Jupyter's authorizer is asked, in its words: ``read``, ``write`` or ``execute``.
    scope
        What the credential must be good for. ``admin`` asks for an administrator besides, and
        ``account`` for one who has signed in: an API key will do only with the scope ``admin``.
    is_public
        Whether anybody may call.
    """

    action: str
    resource: str
    scope: Need = "read"
    is_public: bool = False


PUBLIC = Policy("read", "mlserve:health", is_public=True)


def requires(action: str, resource: str, *, scope: Need) -> Callable[[Method], Method]:
    """Declare what a caller must be allowed to do, and the credential be good for."""
    return _declare(Policy(action, resource, scope))


def public(method: Method) -> Method:
    """Declare that anybody may call."""
    return _declare(PUBLIC)(method)


def policy_of(method: Any) -> Policy | None:
    """Return what was declared for a handler's method (of any signature, hence ``Any``)."""
    found = getattr(method, "__mlserve_policy__", None)
    return found if isinstance(found, Policy) else None


def check_scope(policy: Policy, principal: Principal) -> None:
    """Return if a credential is good for what a method does.

    Raises
    ------
    PermissionDenied
        Naming the scope that it lacks.
    """
    needed: Scope
    if policy.scope != "account":
        needed = policy.scope
    elif principal.via == "key":
        needed = "admin"
    else:
        return
    if needed not in principal.scopes:
        raise PermissionDenied(
            f"This key has not the scope {needed!r}: use one that has, or sign in.", scope=needed
        )


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
