"""``api/v1/users``: administrators see who there is, and change what they may do."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec

from mlserve_jupyter.api.users import DescribeUser, ListUsers, Role, UpdateUser
from mlserve_jupyter.errors import Conflict, InvalidBody, NotFound
from mlserve_jupyter.server.documentation import PageQuery, documented
from mlserve_jupyter.server.policy import ACCOUNTS, requires
from mlserve_jupyter.server.resource import Resource


class UsersQuery(PageQuery, frozen=True, kw_only=True):
    """The arguments of the list of users."""

    name: Annotated[str, msgspec.Meta(description="The user of this name.")] | None = None
    role: Annotated[Role, msgspec.Meta(description="Users of this role.")] | None = None
    is_active: (
        Annotated[bool, msgspec.Meta(description="Users who may, or may not, come in.")] | None
    ) = None


class UsersResource(Resource):
    """``api/v1/users``."""

    @documented(summary="List users", query=UsersQuery, answers={200: ListUsers})
    @requires("read", ACCOUNTS, scope="admin")
    async def get(self) -> None:
        """List the users by name, with how many models they have and how often these are called."""
        from mlserve_jupyter.accounts.administration import list_users

        query = self.decode_query(UsersQuery)
        services = await self.platform.services()
        page = await asyncio.to_thread(
            list_users,
            services.engine,
            self.page_limit,
            query.cursor or None,
            name=query.name,
            role=query.role,
            is_active=query.is_active,
        )
        self.answer(ListUsers(items=list(page.items), next_cursor=page.next_cursor))


class UserResource(Resource):
    """``api/v1/users/{user}``."""

    @documented(
        summary="Change a user",
        body=UpdateUser,
        answers={200: DescribeUser},
        errors=(InvalidBody, NotFound, Conflict),
    )
    @requires("write", ACCOUNTS, scope="admin")
    async def patch(self, user: str) -> None:
        """Change a user's role, whether the user may come in, or the user's rate limit."""
        from mlserve_jupyter.accounts.administration import change_user

        changes = self.decode_body(UpdateUser)
        services = await self.platform.services()
        changed = await services.change_access(
            change_user, services.engine, user, changes, self.origin
        )
        self.answer(changed)
