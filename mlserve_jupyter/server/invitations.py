"""``api/v1/invitations``: administrators let people register."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from mlserve_jupyter.api.accounts import (
    CreateInvitation,
    DescribeInvitation,
    DescribeNewInvitation,
    ListInvitations,
)
from mlserve_jupyter.errors import Conflict, EmailRejected, InvalidBody, NotFound
from mlserve_jupyter.server.documentation import PageQuery, documented
from mlserve_jupyter.server.policy import ACCOUNTS, requires
from mlserve_jupyter.server.resource import Resource


class InvitationsResource(Resource):
    """``api/v1/invitations``: GET lists, POST invites."""

    @documented(summary="List invitations", query=PageQuery, answers={200: ListInvitations})
    @requires("read", ACCOUNTS, scope="admin")
    async def get(self) -> None:
        """List all invitations, newest first, without their codes."""
        from mlserve_jupyter.accounts.invitations import list_invitations

        services = await self.platform.services()
        page = await asyncio.to_thread(
            list_invitations,
            services.engine,
            limit=self.page_limit,
            cursor=self.get_query_argument("cursor", None),
        )
        items = [DescribeInvitation(**vars(invitation)) for invitation in page.items]
        self.answer(ListInvitations(items=items, next_cursor=page.next_cursor))

    @documented(
        summary="Invite somebody",
        body=CreateInvitation,
        answers={201: DescribeNewInvitation},
        errors=(InvalidBody, EmailRejected),
    )
    @requires("write", ACCOUNTS, scope="admin")
    async def post(self) -> None:
        """Make a code with which somebody may register once; it is shown in this answer alone."""
        from mlserve_jupyter.accounts.invitations import create_invitation

        wanted = self.decode_body(CreateInvitation)
        services = await self.platform.services()
        creator = await services.user(self.caller)
        made, code = await services.write(
            create_invitation,
            services.engine,
            creator.id,
            self.origin,
            email=wanted.email,
            role=wanted.role,
            lifetime=timedelta(seconds=wanted.expires_in_s),
        )
        self.set_header("Location", f"{self.request.path}/{made.id}")
        self.answer(DescribeNewInvitation(code=code, **vars(made)), 201)


class InvitationResource(Resource):
    """``api/v1/invitations/{id}``."""

    @documented(summary="Take an invitation back", answers={204: None}, errors=(NotFound, Conflict))
    @requires("write", ACCOUNTS, scope="admin")
    async def delete(self, invitation: str) -> None:
        """Take back an invitation with which nobody has registered yet."""
        from mlserve_jupyter.accounts.invitations import delete_invitation

        services = await self.platform.services()
        await services.write(delete_invitation, services.engine, invitation, self.origin)
        self.set_status(204)
        await self.finish()
