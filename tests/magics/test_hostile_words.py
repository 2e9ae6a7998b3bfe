"""Words of other people in the plain displays, from a real server."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import mlserve_jupyter
from tests.live import LiveServer

STEERING = "\x1b]52;c;aGk=\x07\x1b[2J\r\u202e"
SPELLED = r"\u001b]52;c;aGk=\u0007\u001b[2J\u000d\u202e"


class Doubles:
    def predict(self, X: pd.DataFrame) -> Any:
        return 2 * X.iloc[:, 0].to_numpy()


@pytest.mark.parametrize("display", ["show", "snippet", "drift", "quality", "stats", "list"])
def test_what_people_wrote_cannot_steer_the_terminal_of_who_reads_it(
    live_server: LiveServer, monkeypatch: pytest.MonkeyPatch, display: str
) -> None:
    monkeypatch.setenv("MLSERVE_URL", live_server.url)
    monkeypatch.setenv("MLSERVE_KEY", live_server.key)
    name = f"hostile-words-{display}"
    sample = pd.DataFrame({f"a{STEERING}": [float(n) for n in range(40)]})
    mlserve_jupyter.deploy(Doubles(), name=name, sample=sample, note=f"note {STEERING}")
    live_server.request(
        "PATCH", f"api/v1/models/{name}", json={"description": f"of all {STEERING}\n  URL  none"}
    )
    rows = {"instances": [{f"a{STEERING}": float(n)} for n in range(100)]}
    assert live_server.request("POST", f"api/v1/predict/{name}", json=rows).status_code == 200
    function = getattr(mlserve_jupyter, display)
    shown = repr(function() if display == "list" else function(name))
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(shown)
    if display == "show":
        assert f"of all {SPELLED}\n                  URL  none" in shown
        assert f"note {SPELLED}" in shown
    if display in ("show", "drift"):
        assert f"a{SPELLED}" in shown
