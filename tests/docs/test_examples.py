"""The examples of the documentation fit the model that the README makes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from sklearn.datasets import load_wine

from mlserve_jupyter.api.accounts import CreateInvitation, Login, Register
from mlserve_jupyter.api.decode import InputDecoder
from mlserve_jupyter.artifacts.infer import infer_inputs
from mlserve_jupyter.magics.snippet import example_body

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/rest.md"])
def test_a_body_of_curl_is_what_the_wine_model_takes(page: str) -> None:
    inputs = infer_inputs(load_wine(as_frame=True, return_X_y=True)[0])
    bodies = re.findall(r"-d '([^']*)'", (ROOT / page).read_text())
    assert bodies
    for body in bodies:
        assert InputDecoder(inputs, "refuse").decode(body.encode(), "application/json").n_rows == 1


COMMANDS = [
    pytest.param(page.name, re.sub(r"\\\n\s*", "", command), id=f"{page.stem}-{number}")
    for page in sorted((ROOT / "docs").glob("*.md"))
    for number, command in enumerate(
        re.findall(r"^ *(?:\$ )?(curl (?:.*\\\n)*.*)$", page.read_text(), re.MULTILINE)
    )
]
VARIABLES = {"MLSERVE_URL", "MLSERVE_KEY", "JUPYTER_TOKEN", "ACCESS_TOKEN", "REQUEST_ID"}


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_curl_command_has_the_type_of_its_body_and_variables_that_are_defined(
    page: str, command: str
) -> None:
    assert set(re.findall(r"\$\{?(\w+)", command)) <= VARIABLES
    assert "$MLSERVE_URL" not in command, "it ends with a slash, and goes in braces"
    assert ("-d " in command) == ("Content-Type: application/json" in command)


def test_the_commands_of_accounts_have_bodies_that_the_routes_take() -> None:
    commands = [found.values[1] for found in COMMANDS if found.values[0] == "accounts.md"]
    types = {"invitations": CreateInvitation, "register": Register, "login": Login}
    for route, kind in types.items():
        [body] = [
            re.findall(r"-d '([^']*)'", str(command))[0]
            for command in commands
            if f'/{route}"' in str(command)
        ]
        msgspec.json.decode(body, type=kind)


def test_the_readme_shows_the_body_that_the_snippet_prints() -> None:
    (body,) = re.findall(r"-d '([^']*)'", (ROOT / "README.md").read_text())
    inputs = infer_inputs(load_wine(as_frame=True, return_X_y=True)[0])
    (key,) = json.loads(body)
    assert key == "dataframe_records"
    assert set(json.loads(body)[key][0]) == set(example_body(inputs)["instances"][0])
