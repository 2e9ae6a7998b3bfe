"""``api/v1/auth/…``: register, sign in and out, and who the caller is."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from mlserve_jupyter.api.accounts import (
    DescribeAccount,
    DescribeMe,
    DescribeTokens,
    Login,
    Refresh,
    Register,
    UpdateMe,
)
from mlserve_jupyter.errors import (
    Conflict,
    EmailRejected,
    InvalidBody,
    InvalidName,
    PasswordRejected,
    PermissionDenied,
    StorageFull,
    TooManyAttempts,
    Unauthenticated,
    Unavailable,
)
from mlserve_jupyter.server.documentation import documented
from mlserve_jupyter.server.policy import ACCOUNTS, public, requires
from mlserve_jupyter.server.resource import Resource

if TYPE_CHECKING:
    from mlserve_jupyter.accounts.sessions import TokenPair


class _AuthResource(Resource):
    def answer_tokens(self, pair: TokenPair) -> None:
        """Finish with a pair of tokens."""
        self.answer(
            DescribeTokens(
                access_token=pair.access_token,
                refresh_token=pair.refresh_token,
                expires_in=pair.expires_in_s,
            )
        )


class RegisterResource(_AuthResource):
    """``api/v1/auth/register``."""

    @documented(
        summary="Register",
        body=Register,
        answers={201: DescribeAccount},
        errors=(
            InvalidBody,
            InvalidName,
            PermissionDenied,
            EmailRejected,
            PasswordRejected,
            Conflict,
            TooManyAttempts,
            StorageFull,
            Unavailable,
        ),
    )
    @public
    async def post(self) -> None:
        """Make an account, as the setting `registration` allows: open, by invitation, or closed."""
        body = self.decode_body(Register)
        services = await self.platform.services()
        person = await services.registration.register(
            body.email, body.password, body.name, body.invitation, self.origin
        )
        self.answer(
            DescribeAccount(
                id=person.id,
                name=person.name,
                email=person.email or "",
                role=person.role,
                created_at=person.created_at,
            ),
            201,
        )


class LoginResource(_AuthResource):
    """``api/v1/auth/login``."""

    @documented(
        summary="Sign in",
        body=Login,
        answers={200: DescribeTokens},
        errors=(
            InvalidBody,
            Unauthenticated,
            PermissionDenied,
            PasswordRejected,
            TooManyAttempts,
            StorageFull,
            Unavailable,
        ),
    )
    @public
    async def post(self) -> None:
        """Return tokens for an email and its password."""
        body = self.decode_body(Login)
        services = await self.platform.services()
        self.answer_tokens(await services.sign_in.login(body.email, body.password, self.origin))


class RefreshResource(_AuthResource):
    """``api/v1/auth/refresh``."""

    @documented(
        summary="Exchange a refresh token",
        body=Refresh,
        answers={200: DescribeTokens},
        errors=(InvalidBody, Unauthenticated, Conflict, StorageFull, Unavailable),
    )
    @public
    async def post(self) -> None:
        """Return the next pair of tokens; a token that comes a second time ends all of its family.

        A request that was already under way when another one exchanged the token is told so
        (409), and ends nothing.
        """
        arrived_at_s = time.time() - self.request.request_time()
        arrived_at = datetime.fromtimestamp(arrived_at_s, timezone.utc)
        body = self.decode_body(Refresh)
        services = await self.platform.services()
        self.answer_tokens(
            await services.sign_in.refresh(body.refresh_token, self.origin, arrived_at)
        )


class LogoutResource(_AuthResource):
    """``api/v1/auth/logout``."""

    @documented(summary="Sign out", answers={204: None}, errors=(Conflict,))
    @requires("write", ACCOUNTS, scope="account")
    async def post(self) -> None:
        """End the caller's access token, and all that came of the same login."""
        services = await self.platform.services()
        await services.sign_in.logout(self.caller, self.origin)
        self.set_status(204)
        await self.finish()


class SessionResource(_AuthResource):
    """``api/v1/auth/session``."""

    @documented(summary="Turn Jupyter's identity into tokens", answers={200: DescribeTokens})
    @requires("write", ACCOUNTS, scope="account")
    async def post(self) -> None:
        """Return tokens for whom Jupyter, or the key of its kernels, proves the caller to be."""
        services = await self.platform.services()
        user = await services.user(self.caller)
        self.answer_tokens(await services.sign_in.begin_session(user.id, self.caller, self.origin))


class MeResource(_AuthResource):
    """``api/v1/auth/me``."""

    @documented(summary="Who you are", answers={200: DescribeMe})
    @requires("read", ACCOUNTS, scope="read")
    async def get(self) -> None:
        """Describe the caller, and what the credential is good for."""
        from mlserve_jupyter.accounts.people import find_by_id

        services = await self.platform.services()
        user = await services.user(self.caller)
        person = await asyncio.to_thread(find_by_id, services.engine, user.id)
        caller = self.caller
        self.answer(
            DescribeMe(
                id=person.id,
                name=person.name,
                email=person.email,
                role=user.role,
                created_at=person.created_at,
                via=caller.via,
                scopes=sorted(caller.scopes),
                model_ids=None if caller.model_ids is None else sorted(caller.model_ids),
                rate_limit=self.platform.settings.quota_per_minute
                if caller.rate_limit is None
                else caller.rate_limit,
            )
        )

    @documented(
        summary="Change your password",
        body=UpdateMe,
        answers={200: DescribeMe},
        errors=(InvalidBody, PasswordRejected, Conflict, TooManyAttempts),
    )
    @requires("write", ACCOUNTS, scope="account")
    async def patch(self) -> None:
        """Change the caller's password; all tokens end, those of this request too."""
        body = self.decode_body(UpdateMe)
        services = await self.platform.services()
        await services.sign_in.change_password(
            self.caller, body.current_password, body.new_password, self.origin
        )
        await self.get()
