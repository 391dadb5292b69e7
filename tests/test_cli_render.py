"""What the user sees is what was said: nothing a terminal would obey comes through from names."""

from __future__ import annotations

import pytest

from sigan.cli import render


@pytest.mark.parametrize(("text", "shown"), [
    ("two\nlines\tand a tab", "two\nlines\tand a tab"), ("Åsa 山 👩‍🎨", "Åsa 山 👩‍🎨"),
    ("\x1b[2Jgone\x07", r"\x1b[2Jgone\x07"), ("\x9b31m", r"\x9b31m"), ("a\rb", r"a\rb"),
    ("CC0 \u202egnp.exe", r"CC0 \u202egnp.exe"), ("torn\udcff.png", r"torn\udcff.png"),
])
def test_controls_are_spelled_out(text, shown, capsys):
    render.error(text, text)
    render.table("styles", ["name"], [[text]])
    assert capsys.readouterr().err.count(shown) == 3 and render.visible(text) == shown


def test_a_file_with_a_hostile_name_is_told_and_harmless(tmp_path, capsys):
    from sigan.cli.app import main

    path = tmp_path / "\x1b]0;title\x07.safetensors"
    path.write_bytes(b"no pack")
    assert main(["styles", "install", str(path)]) == 7
    err = capsys.readouterr().err
    assert r"\x1b]0;title\x07.safetensors" in err and "\x1b" not in err
