"""``api/v1/api-keys``: keys for programs, made and revoked by those who have signed in."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec.structs import asdict

from mlserve_jupyter.api.keys import CreateKey, DescribeKey, DescribeNewKey, ListKeys
from mlserve_jupyter.errors import Conflict, InvalidBody, InvalidName, ModelNotFound, NotFound
from mlserve_jupyter.server.documentation import PageQuery, documented
from mlserve_jupyter.server.policy import ACCOUNTS, requires
from mlserve_jupyter.server.resource import Resource

if TYPE_CHECKING:
    from mlserve_jupyter.accounts.api_keys import ApiKey
    from mlserve_jupyter.registry.catalog import Catalog
    from mlserve_jupyter.storage.users import User


class ApiKeysResource(Resource):
    """``api/v1/api-keys``: GET lists, POST makes one."""

    @documented(summary="List your API keys", query=PageQuery, answers={200: ListKeys})
    @requires("read", ACCOUNTS, scope="account")
    async def get(self) -> None:
        """List the caller's keys, newest first, without those that were revoked."""
        from mlserve_jupyter.accounts.api_keys import list_keys

        services = await self.platform.services()
        user = await services.user(self.caller)
        cursor = self.get_query_argument("cursor", None)
        page = await asyncio.to_thread(list_keys, services.engine, user, self.page_limit, cursor)
        items = [_describe(key, services.catalog.current, user) for key in page.items]
        self.answer(ListKeys(items=items, next_cursor=page.next_cursor))

    @documented(
        summary="Make an API key",
        body=CreateKey,
        answers={201: DescribeNewKey},
        errors=(InvalidBody, InvalidName, ModelNotFound, Conflict),
    )
    @requires("write", ACCOUNTS, scope="account")
    async def post(self) -> None:
        """Make a key of the caller's, and show it this once."""
        from mlserve_jupyter.accounts.api_keys import check_allowed, create_key

        wanted = self.decode_body(CreateKey)
        services = await self.platform.services()
        user = await services.user(self.caller)
        check_allowed(wanted, user, self.caller)
        ids = await self._model_ids(user, wanted.models)
        origin = replace(self.origin, actor_id=user.id)
        key, made = await services.write(create_key, services.engine, user, wanted, ids, origin)
        described = _describe(made, services.catalog.current, user)
        self.set_header("Location", f"{self.request.path}/{made.id}")
        self.answer(DescribeNewKey(key=key, **asdict(described)), 201)

    async def _model_ids(self, user: User, models: list[str] | None) -> list[str] | None:
        """Return the ids of models that the caller sees."""
        if models is None:
            return None
        catalog = (await self.platform.services()).catalog

        def find(now: Catalog) -> list[str]:
            return [now.model(user, model).id for model in models]

        return await catalog.find(find)


class ApiKeyResource(Resource):
    """``api/v1/api-keys/{key}``."""

    @documented(summary="Revoke an API key", answers={204: None}, errors=(NotFound,))
    @requires("write", ACCOUNTS, scope="account")
    async def delete(self, key: str) -> None:
        """Revoke a key; administrators revoke anybody's."""
        from mlserve_jupyter.accounts.api_keys import revoke_key

        services = await self.platform.services()
        user = await services.user(self.caller)
        origin = replace(self.origin, actor_id=user.id)
        await services.change_access(revoke_key, services.engine, user, key, origin)
        self.set_status(204)
        await self.finish()


def _describe(key: ApiKey, catalog: Catalog, user: User) -> DescribeKey:
    """Return the wire form of a key, with its models as its owner names them."""
    ids = key.model_ids
    return DescribeKey(
        id=key.id,
        name=key.name,
        prefix=key.prefix,
        scopes=list(key.scopes),
        models=None if ids is None else [_reference(id, catalog, user) for id in ids],
        rate_limit=key.rate_limit,
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
    )


def _reference(model_id: str, catalog: Catalog, user: User) -> str:
    try:
        return catalog.by_id(model_id).reference_for(user)
    except ModelNotFound:
        return model_id
