"""``api/v1/artifact-approvals``: administrators approve artifacts that can run code, one by one."""

from __future__ import annotations

import asyncio

import msgspec

from mlserve_jupyter.api.approvals import ApproveArtifact, DescribeApproval, ListApprovals
from mlserve_jupyter.errors import InvalidBody, NotFound
from mlserve_jupyter.registry.catalog import Catalog
from mlserve_jupyter.server.documentation import PageQuery, documented
from mlserve_jupyter.server.policy import ACCOUNTS, requires
from mlserve_jupyter.server.resource import Resource


class ApprovalsResource(Resource):
    """``api/v1/artifact-approvals``."""

    @documented(summary="List approved artifacts", query=PageQuery, answers={200: ListApprovals})
    @requires("read", ACCOUNTS, scope="admin")
    async def get(self) -> None:
        """List the artifacts that can run code and are approved, by sha256."""
        from mlserve_jupyter.registry.approvals import list_approvals

        services = await self.platform.services()
        cursor = self.get_query_argument("cursor", None)
        page = await asyncio.to_thread(list_approvals, services.engine, self.page_limit, cursor)
        items = _with_versions(services.catalog.current, *page.items)
        self.answer(ListApprovals(items=items, next_cursor=page.next_cursor))


class ApprovalResource(Resource):
    """``api/v1/artifact-approvals/{sha256}``."""

    @documented(summary="Describe an approval", answers={200: DescribeApproval}, errors=(NotFound,))
    @requires("read", ACCOUNTS, scope="admin")
    async def get(self, sha256: str) -> None:
        """Say who approved an artifact, and what is deployed with it."""
        from mlserve_jupyter.registry.approvals import find_approval

        services = await self.platform.services()
        found = await asyncio.to_thread(find_approval, services.engine, sha256)
        self.answer(_with_versions(services.catalog.current, found)[0])

    @documented(
        summary="Approve an artifact",
        body=ApproveArtifact,
        is_body_required=False,
        answers={200: DescribeApproval},
        errors=(InvalidBody,),
    )
    @requires("write", ACCOUNTS, scope="admin")
    async def put(self, sha256: str) -> None:
        """Approve an artifact that can run code, byte for byte; the body may be empty."""
        from mlserve_jupyter.registry.approvals import approve

        note = self.decode_body(ApproveArtifact).note if self.body else ""
        services = await self.platform.services()
        user = await services.user(self.caller)
        made = await services.change(
            approve, services.engine, user, sha256, note, self.origin.write
        )
        self.answer(_with_versions(services.catalog.current, made)[0])

    @documented(summary="Take an approval back", answers={204: None}, errors=(NotFound,))
    @requires("write", ACCOUNTS, scope="admin")
    async def delete(self, sha256: str) -> None:
        """Take an approval back; what is deployed with the artifact stops to answer."""
        from mlserve_jupyter.registry.approvals import take_back

        services = await self.platform.services()
        await services.change(take_back, services.engine, sha256, self.origin.write)
        for version in services.catalog.current.versions():
            if version.sha256 == sha256.lower():
                services.workers.forget(version.id)
        self.set_status(204)
        await self.finish()


def _with_versions(catalog: Catalog, *approvals: DescribeApproval) -> list[DescribeApproval]:
    """Return approvals with what is deployed under them."""
    versions: dict[str, list[str]] = {approval.sha256: [] for approval in approvals}
    for version in catalog.versions():
        if version.sha256 in versions:
            shown = f"{version.owner}~{version.model} {version.version}"
            versions[version.sha256].append(shown)
    return [
        msgspec.structs.replace(approval, versions=sorted(versions[approval.sha256]))
        for approval in approvals
    ]
