"""`--verbose`: what it says besides is so, and it leaves nothing behind."""

from __future__ import annotations

import logging
import re

import typer

import sigan
from sigan.cli import app


def a_line(monkeypatch) -> None:
    def build(wanted: str = "") -> typer.Typer:
        root = typer.Typer()
        root.callback()(lambda: None)

        @root.command()
        def draw(style: str = "ink", seed: int = typer.Option(0, envvar="SIGAN_SEED"), count: int = 8) -> None:
            logging.getLogger("sigan.anything").info("loaded %s", style)

        return root

    monkeypatch.setattr(app, "build", build)


def test_it_says_versions_sources_steps_and_cost(monkeypatch, capsys, tmp_path):
    a_line(monkeypatch)
    file = tmp_path / "f.toml"
    file.write_text("[draw]\ncount = 2\n", encoding="utf-8")
    monkeypatch.setenv("SIGAN_SEED", "4")
    assert app.main(["draw", "--verbose", "--style", "oil", "--config", str(file)]) == 0
    out, err = capsys.readouterr()
    said = [re.sub(r"^\[ *[\d.]+ s\] ", "", line) for line in err.splitlines()]
    assert out == "" and all(line.startswith("[") for line in err.splitlines())
    assert f"sigan {sigan.__version__}" in said[0] and "torch " in said[0]
    assert said[1:6] == [f"configuration file: {file}", "style: oil (command line)", "seed: 4 (environment)",
                         "count: 2 (file)", "loaded oil"]
    assert re.match(r"end: [\d.]+ s of processor time", said[6]) and len(said) == 7


def test_without_it_nothing_is_said_and_with_it_nothing_is_left(monkeypatch, capsys):
    a_line(monkeypatch)
    before = list(logging.getLogger("sigan").handlers)
    assert app.main(["--verbose", "draw"]) == 0
    capsys.readouterr()
    assert logging.getLogger("sigan").handlers == before
    assert app.main(["draw"]) == 0
    assert capsys.readouterr() == ("", "")
