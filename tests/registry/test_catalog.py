from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import pytest
from sqlalchemy.engine import Engine

from mlserve_jupyter.api.resources import UpdateVersion
from mlserve_jupyter.errors import InvalidRequest, ModelNotFound, VersionNotFound
from mlserve_jupyter.registry.catalog import Catalog
from tests.registry.deploys import Deploys


def catalog_with(deploy: Deploys, *statuses: str) -> Catalog:
    """Return a catalog in which the versions of ``clf`` have these statuses."""
    for status in statuses:
        served = deploy()
        changes = UpdateVersion(status=status)  # type: ignore[arg-type]
        deploy.registry.update_version(served.model_id, served.version, changes)
    return deploy.registry.snapshot()


def test_the_catalog_does_not_import_sqlalchemy() -> None:
    code = (
        "import sys, mlserve_jupyter.registry.catalog, mlserve_jupyter.storage.blobs;"
        "print('sqlalchemy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"


def test_the_latest_active_version_answers_a_call_that_names_none(deploy: Deploys) -> None:
    catalog = catalog_with(deploy, "active", "active", "deprecated", "archived")
    assert catalog.resolve(deploy.user, "clf").version == 2
    assert catalog.model(deploy.user, "clf").describe("/p").default_version == 2


def test_a_deprecated_version_answers_where_it_is_named(deploy: Deploys) -> None:
    catalog = catalog_with(deploy, "deprecated", "active")
    assert catalog.resolve(deploy.user, "clf", 1).version == 1


def test_an_archived_version_does_not_answer_and_says_how_it_would(deploy: Deploys) -> None:
    catalog = catalog_with(deploy, "archived", "active", "deprecated")
    with pytest.raises(VersionNotFound, match='set its status to "active".*version 2 or 3'):
        catalog.resolve(deploy.user, "clf", 1)
    assert catalog.version(deploy.user, "clf", 1).status == "archived"


def test_a_model_without_an_active_version_says_which_could_be_named(deploy: Deploys) -> None:
    catalog = catalog_with(deploy, "deprecated", "archived")
    with pytest.raises(VersionNotFound, match="No version of model 'clf' is active.*version 1"):
        catalog.resolve(deploy.user, "clf")


def test_a_model_whose_versions_are_all_archived_says_so(deploy: Deploys) -> None:
    catalog = catalog_with(deploy, "archived")
    with pytest.raises(VersionNotFound, match="all are archived"):
        catalog.resolve(deploy.user, "clf")
    assert catalog.model(deploy.user, "clf").describe("/p").default_version is None


def test_a_version_that_never_was_names_those_that_are(deploy: Deploys) -> None:
    catalog = catalog_with(deploy, "active", "active")
    with pytest.raises(VersionNotFound, match="no version 7: call version 1 or 2"):
        catalog.resolve(deploy.user, "clf", 7)


def test_a_model_answers_to_its_name_its_uuid_and_with_its_owner(deploy: Deploys) -> None:
    served = deploy()
    catalog = deploy.registry.snapshot()
    for reference in ("clf", served.model_id, served.model_id.upper(), "owner~clf"):
        assert catalog.resolve(deploy.user, reference) == served


def test_a_model_of_another_user_is_not_there(deploy: Deploys, engine: Engine) -> None:
    served = deploy()
    other = Deploys(engine, deploy.store, "other")
    own = other("own", b"own")
    catalog = deploy.registry.snapshot()
    for reference in ("clf", served.model_id, "owner~clf", "other~clf"):
        with pytest.raises(ModelNotFound) as caught:
            catalog.resolve(other.user, reference)
        assert "'own'" in str(caught.value)
        assert not caught.value.details["near"]
    assert catalog.resolve(other.user, "other~own") == own
    assert [model.name for model in catalog.list_models(other.user).items] == ["own"]
    assert len(catalog) == 2


def test_a_name_that_is_nearly_right_is_proposed(deploy: Deploys) -> None:
    deploy("churn-model")
    with pytest.raises(ModelNotFound, match="'chrun-model'. Did you mean 'churn-model'"):
        deploy.registry.snapshot().resolve(deploy.user, "chrun-model")


def test_a_name_is_proposed_from_a_bounded_number_of_models(deploy: Deploys) -> None:
    model = deploy("zebra-one").model_id
    one = next(iter(deploy.registry.snapshot().by_id(model).versions.values()))
    found = deploy.registry.snapshot().by_id(model)
    many = [
        replace(found, id=f"{number}", name=f"churn-{number:05d}", versions={1: one})
        for number in range(20_000)
    ]
    catalog = Catalog([*many, found], 1)
    with pytest.raises(ModelNotFound) as error:
        catalog.resolve(deploy.user, "zebra-onf")
    assert error.value.details["near"] == ["zebra-one"]
    started_s = time.perf_counter()
    for _ in range(10):
        with pytest.raises(ModelNotFound):
            catalog.resolve(deploy.user, "churn-000000")
    assert time.perf_counter() - started_s < 5  # all of them would take minutes


def test_an_empty_registry_says_how_to_deploy(deploy: Deploys) -> None:
    with pytest.raises(ModelNotFound, match="%mlserve deploy"):
        deploy.registry.snapshot().resolve(deploy.user, "clf")


@pytest.mark.parametrize("reference", ["", "~", "a" * 10_000, "\0", "owner~", "é~clf", "../clf"])
def test_any_text_can_be_looked_up(deploy: Deploys, reference: str) -> None:
    deploy()
    with pytest.raises(ModelNotFound) as caught:
        deploy.registry.snapshot().resolve(deploy.user, reference)
    assert len(str(caught.value)) < 300


def test_models_page_by_name(deploy: Deploys) -> None:
    for name in ("c", "a", "e", "b", "d"):
        deploy(name)
    catalog = deploy.registry.snapshot()
    pages, cursor = [], None
    while True:
        page = catalog.list_models(deploy.user, limit=2, cursor=cursor)
        pages.append([model.name for model in page.items])
        cursor = page.next_cursor
        if cursor is None:
            break
    assert pages == [["a", "b"], ["c", "d"], ["e"]]


def test_versions_page_newest_first(deploy: Deploys) -> None:
    model = catalog_with(deploy, "active", "archived", "active", "deprecated").model(
        deploy.user, "clf"
    )
    first = model.list_versions(limit=3)
    rest = model.list_versions(limit=3, cursor=first.next_cursor)
    assert [served.version for served in first.items] == [4, 3, 2]
    assert [served.version for served in rest.items] == [1]
    assert rest.next_cursor is None


def test_a_cursor_of_another_list_is_refused(deploy: Deploys) -> None:
    for name in ("a", "b"):
        deploy(name)
    catalog = deploy.registry.snapshot()
    cursor = catalog.list_models(deploy.user, limit=1).next_cursor
    with pytest.raises(InvalidRequest, match="cursor"):
        catalog.model(deploy.user, "a").list_versions(cursor=cursor)
    with pytest.raises(InvalidRequest, match="limit"):
        catalog.list_models(deploy.user, limit=0)


def test_a_version_describes_itself_on_the_wire(deploy: Deploys) -> None:
    served = deploy()
    described = served.describe("/base/mlserve/api/v1/predict/clf")
    assert described.model == "clf"
    assert described.predict_path == "/base/mlserve/api/v1/predict/clf"
    assert described.signature == served.signature
    assert described.verification.n_rows == 3
    assert served.interpreter == "/env/bin/python"
    assert served.not_deterministic == ("sim",)
