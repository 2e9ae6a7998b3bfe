from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.accounts.owners import ensure_user
from mlserve_jupyter.api.resources import UpdateModel, UpdateVersion
from mlserve_jupyter.errors import InvalidRequest, ModelNotFound, PermissionDenied
from mlserve_jupyter.registry.catalog import Catalog
from mlserve_jupyter.storage.engine import writing
from mlserve_jupyter.storage.tables import users
from mlserve_jupyter.storage.users import User
from tests.registry.deploys import Deploys


@pytest.fixture
def ann(engine: Engine) -> User:
    return ensure_user(engine, "ann")


@pytest.fixture
def bob(engine: Engine) -> User:
    return ensure_user(engine, "bob")


def share(deploy: Deploys, **changes: Any) -> Catalog:
    """Deploy ``clf``, change who may call it, and return the catalog afterwards."""
    served = deploy()
    deploy.registry.update_model(served.model_id, UpdateModel(**changes))
    return deploy.registry.snapshot()


def test_a_shared_model_is_there_for_those_with_whom_it_is_shared_and_for_nobody_else(
    deploy: Deploys, ann: User, bob: User
) -> None:
    catalog = share(deploy, visibility="shared", shared_with=["ann"])
    found = catalog.model(deploy.user, "clf")
    for reference in ("owner~clf", found.id):
        assert catalog.model(ann, reference) is found
        with pytest.raises(ModelNotFound):
            catalog.model(bob, reference)


def test_a_public_model_is_there_for_everybody_under_its_owners_name(
    deploy: Deploys, bob: User
) -> None:
    catalog = share(deploy, visibility="public")
    assert catalog.resolve(bob, "owner~clf").version == 1
    with pytest.raises(ModelNotFound, match="Did you mean 'owner~clf'"):
        catalog.resolve(bob, "clf")


def test_a_bare_name_is_never_that_of_another_users_model(
    deploy: Deploys, engine: Engine, bob: User
) -> None:
    share(deploy, visibility="public")
    own = Deploys(engine, deploy.store, "bob")("clf", b"own")
    assert deploy.registry.snapshot().resolve(bob, "clf") == own


def test_a_model_that_is_not_visible_is_refused_as_one_that_never_was(
    deploy: Deploys, bob: User
) -> None:
    catalog = share(deploy, visibility="private")
    messages = set()
    for reference in ("owner~clf", "owner~xyz", "nobody~clf"):
        with pytest.raises(ModelNotFound) as caught:
            catalog.model(bob, reference)
        with pytest.raises(ModelNotFound):
            catalog.managed_model(bob, reference)
        messages.add(caught.value.message.replace(reference, ""))
        assert caught.value.details["near"] == []
    assert len(messages) == 1


def test_what_is_visible_and_not_ones_own_may_be_called_and_not_changed(
    deploy: Deploys, bob: User
) -> None:
    catalog = share(deploy, visibility="public")
    with pytest.raises(PermissionDenied, match="ask 'owner'"):
        catalog.managed_model(bob, "owner~clf")
    assert catalog.managed_model(deploy.user, "clf").name == "clf"


def test_an_administrator_sees_and_changes_every_model(deploy: Deploys, bob: User) -> None:
    catalog = share(deploy, visibility="private")
    admin = replace(bob, role="admin")
    assert catalog.managed_model(admin, "owner~clf").owner == "owner"
    assert [m.name for m in catalog.list_models(admin, scope="all").items] == ["clf"]
    assert catalog.list_models(admin).items == ()


def test_lists_are_of_ones_own_models_or_of_what_others_let_one_call(
    deploy: Deploys, engine: Engine, bob: User
) -> None:
    bobs = Deploys(engine, deploy.store, "bob")
    bobs("mine", b"1")
    for name, changes in (
        ("shared", UpdateModel(visibility="shared", shared_with=["bob"])),
        ("public", UpdateModel(visibility="public")),
        ("private", UpdateModel()),
    ):
        deploy.registry.update_model(deploy(name).model_id, changes)
    catalog = deploy.registry.snapshot()

    def names(scope: Any) -> list[str]:
        return [model.reference_for(bob) for model in catalog.list_models(bob, scope=scope).items]

    assert names("own") == ["mine"]
    assert names("shared") == ["owner~shared"]
    assert names("public") == ["owner~public"]
    assert names("all") == ["mine", "owner~public", "owner~shared"]


def test_a_list_of_models_of_one_name_goes_on_where_its_page_ended(
    deploy: Deploys, engine: Engine, bob: User
) -> None:
    share(deploy, visibility="public")
    Deploys(engine, deploy.store, "bob")("clf", b"own")
    catalog = deploy.registry.snapshot()
    first = catalog.list_models(bob, limit=1, scope="all")
    second = catalog.list_models(bob, limit=1, cursor=first.next_cursor, scope="all")
    assert [page.items[0].owner for page in (first, second)] == ["bob", "owner"]
    assert second.next_cursor is None


def test_ending_the_sharing_forgets_with_whom_it_was(deploy: Deploys, ann: User, bob: User) -> None:
    share(deploy, visibility="shared", shared_with=["ann", "bob"])
    model = share(deploy, visibility="private").model(deploy.user, "clf")
    deploy.registry.update_model(model.id, UpdateModel(visibility="shared"))
    catalog = deploy.registry.snapshot()
    assert catalog.model(deploy.user, "clf").shared_with == {}
    with pytest.raises(ModelNotFound):
        catalog.model(ann, "owner~clf")


def test_who_is_not_there_and_who_is_disabled_are_refused_alike(
    deploy: Deploys, engine: Engine, ann: User
) -> None:
    with writing(engine) as connection:
        connection.execute(users.update().where(users.c.id == ann.id).values(is_active=False))
    for name in ("ann", "nobody"):
        with pytest.raises(InvalidRequest, match=f"'{name}': there is no such user"):
            share(deploy, visibility="shared", shared_with=[name])
    assert deploy.registry.snapshot().model(deploy.user, "clf").visibility == "private"


def test_names_without_the_visibility_that_they_go_with_are_refused(
    deploy: Deploys, ann: User
) -> None:
    with pytest.raises(InvalidRequest, match="set both"):
        share(deploy, shared_with=["ann"])
    with pytest.raises(InvalidRequest, match="set both"):
        share(deploy, visibility="public", shared_with=["ann"])


def test_a_key_for_certain_models_opens_and_lists_no_other(deploy: Deploys) -> None:
    one, two = deploy("one"), deploy("two")
    catalog = deploy.registry.snapshot()
    limited = replace(deploy.user, model_ids=frozenset([one.model_id]))
    assert catalog.resolve(limited, "one") == one
    assert [model.name for model in catalog.list_models(limited, scope="all").items] == ["one"]
    for reference in ("two", two.model_id, "owner~two", "tow"):
        with pytest.raises(ModelNotFound) as error:
            catalog.model(limited, reference)
        assert "two" not in error.value.message.replace(f"{reference!r}", "")
    catalog.check_deployable(limited, "one")
    for name in ("two", "three"):
        with pytest.raises(PermissionDenied):
            catalog.check_deployable(limited, name)


def test_others_read_no_paths_of_the_owners_machine_and_not_with_whom_it_is_shared(
    deploy: Deploys, ann: User
) -> None:
    catalog = share(deploy, visibility="shared", shared_with=["ann"])
    model = catalog.model(ann, "owner~clf")
    shown = model.describe("/p", in_full=False)
    assert shown.shared_with == []
    assert not shown.may_change
    version = model.version(1)
    described = version.describe("/p", in_full=version.is_managed_by(ann))
    assert described.environment.interpreter == ""
    assert version.describe("/p").environment.interpreter == "/env/bin/python"
    assert model.describe("/p").shared_with == ["ann"]


def test_a_shared_model_is_deleted_with_its_shares(deploy: Deploys, ann: User) -> None:
    model = share(deploy, visibility="shared", shared_with=["ann"]).model(deploy.user, "clf")
    deploy.registry.update_version(model.id, 1, UpdateVersion(status="archived"))
    deploy.registry.delete_model(model.id)
    assert len(deploy.registry.snapshot()) == 0


def test_each_change_is_told_to_the_journal_in_its_transaction(deploy: Deploys, ann: User) -> None:
    told: list[tuple[str, str, dict[str, Any]]] = []

    def journal(connection: Connection, action: str, target: str, facts: dict[str, Any]) -> None:
        assert connection.in_transaction()
        told.append((action, target, facts))

    served = deploy()
    registry = deploy.registry
    changes = UpdateModel(visibility="shared", shared_with=["ann"])
    registry.update_model(served.model_id, changes, journal)
    registry.update_model(served.model_id, UpdateModel(description="x"), journal)
    registry.update_version(served.model_id, 1, UpdateVersion(note="x"), journal)
    registry.update_version(served.model_id, 1, UpdateVersion(status="archived"), journal)
    registry.delete_model(served.model_id, journal)
    assert told == [
        (
            "model.share",
            "model owner~clf",
            {"visibility": "shared", "visibility_before": "private", "shared_with": ["ann"]},
        ),
        (
            "version.status",
            "version owner~clf 1",
            {"status": "archived", "status_before": "active"},
        ),
        ("model.delete", "model owner~clf", {"n_versions": 1}),
    ]
