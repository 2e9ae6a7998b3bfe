from __future__ import annotations

from pathlib import Path

import pytest

from mlserve_jupyter.errors import MLServeError
from mlserve_jupyter.magics.display import Display, text_facts, text_table
from mlserve_jupyter.plain_text import one_line, plain
from mlserve_jupyter.server.standalone.application import main

CLIPBOARD = "\x1b]52;c;aGk=\x07"  # puts text on the clipboard of many a terminal
CLEAR = "\x1b[2J\r"


class Shown(Display):
    def _text(self) -> str:
        return f"first{CLIPBOARD}\nsecond{CLEAR}"

    def _html(self) -> str:
        return ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (CLIPBOARD, r"\u001b]52;c;aGk=\u0007"),
        (CLEAR, r"\u001b[2J\u000d"),
        ("\x9b2J \x7f \x00", r"\u009b2J \u007f \u0000"),
        ("abc\u202edef\u2066", r"abc\u202edef\u2066"),
        ("a\u2028b\x85c\ud800", r"a\u2028b\u0085c\ud800"),
        ("Zürich, 東京, 👩\u200d🔬\n\tשלום", "Zürich, 東京, 👩\u200d🔬\n\tשלום"),
    ],
)
def test_what_steers_a_terminal_is_spelled_out_and_all_else_stays(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_text_on_a_line_that_others_share_stays_on_it() -> None:
    assert one_line("a\nb\tc\x1b") == r"a\nb\tc\u001b"


def test_displays_keep_their_lines_and_nothing_that_steers_a_terminal() -> None:
    expected = "first\\u001b]52;c;aGk=\\u0007\nsecond\\u001b[2J\\u000d"
    assert repr(Shown()) == str(Shown()) == expected
    assert Shown()._repr_mimebundle_()["text/plain"] == expected


def test_a_cell_of_a_table_cannot_begin_another_row_and_stays_below_its_column() -> None:
    lines = text_table(("name", "n"), [("a\n\x1b[A", "1"), ("b", "2")]).split("\n")
    assert len(lines) == 3
    assert lines[1].rindex("1") == lines[2].rindex("2")


def test_a_text_of_several_lines_cannot_pass_for_another_fact() -> None:
    assert text_facts([("note", "one\nURL   two"), ("URL", "three")], 6) == [
        "  note  one\n        URL   two",
        "  URL   three",
    ]


def test_an_error_in_a_notebook_cannot_steer_its_terminal() -> None:
    [line] = MLServeError(f"no column {CLIPBOARD}")._render_traceback_()
    assert line == r"MLServeError: no column \u001b]52;c;aGk=\u0007"


def test_an_error_of_the_command_cannot_steer_its_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["db", "status", f"--data-dir={tmp_path}/{CLEAR}"]) == 2
    assert r"\u001b[2J\u000d" in capsys.readouterr().err
