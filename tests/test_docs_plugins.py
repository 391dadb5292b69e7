"""The package of docs/plugins.md is installed from the page, and every part of it is used."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sigan import bases, images, plugins, styles
from sigan.cli.app import main
from sigan.errors import ConfigError
from sigan.evaluation import EvalConfig, Evaluation

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "plugins.md").read_text("utf-8")


def block(language: str) -> str:
    (text,) = re.findall(rf"^```{language}[^\n]*\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return text


POINTS = tomllib.loads(block("toml"))["project"]["entry-points"]


@pytest.fixture
def example(package, tiny_pack, tmp_path):
    tiny_pack.save(tmp_path / "pack.safetensors")
    points = {group: {name: value.removeprefix("sigan_example") for name, value in offers.items()}
              for group, offers in POINTS.items()}
    package("sigan-example", points, {"__init__.py": block("python"), "packs/example-style.safetensors":
                                      (tmp_path / "pack.safetensors").read_bytes()})


def test_the_page_tells_every_group_and_the_example_has_each():
    assert set(re.findall(r"^\| `(sigan\.\w+)` \|", PAGE, re.MULTILINE)) == set(plugins.GROUPS) == set(POINTS)


def test_the_examples_style_and_base_are_found(example):
    assert styles.find("example-style").origin == "sigan-example" and styles.problems() == []
    assert plugins.load("sigan.bases", "example-base")() == bases.mini()


def test_the_examples_aligner_aligns(example, draw, tmp_path):
    draw(tmp_path / "a.png")
    arguments = ["align", str(tmp_path / "a.png"), str(tmp_path / "out"), "--size", "32", "--aligner", "centred"]
    assert main(arguments) == 0 and images.read(tmp_path / "out" / "a.png").shape == (32, 32, 3)


def test_the_examples_inverter_inverts(example, tiny_base, draw, tmp_path):
    draw(tmp_path / "a.png")
    assert main(["invert", str(tmp_path / "a.png"), str(tmp_path / "out"), "--aligned", "--inverter", "average"]) == 0
    expected = tiny_base.sample(16, 0).mean(0, keepdim=True)
    torch.testing.assert_close(load_file(tmp_path / "out" / "a.safetensors")["ws"], expected)


def test_the_examples_engine_runs_the_batch(example, tiny_base, draw, tmp_path, capsys):
    for name in "ab":
        draw(tmp_path / "in" / f"{name}.png")
    arguments = ["stylize", "--style", "example-style", "--engine", "backwards", "--aligned", "--batch-size", "1",
                 str(tmp_path / "in"), str(tmp_path / "out"), "--json"]
    assert main(arguments) == 0
    sources = [json.loads(line).get("source", "") for line in capsys.readouterr().out.splitlines()]
    assert [Path(source).stem for source in sources if source] == ["b", "a"]


def test_the_examples_metric_measures(example, tmp_path):
    import numpy as np

    for side, level in (("in", 0), ("out", 9)):
        images.write(tmp_path / side / "a.png", np.full((64, 64, 3), level, np.uint8))
    config = EvalConfig(metrics=("difference",), aligned=True)
    run = Evaluation(tmp_path / "out", tmp_path / "in", config=config)
    assert [record.values for record in run] == [{"difference": 9}] and run.figures()[0].value == 9
    with pytest.raises(ConfigError, match="difference compares results with inputs"):
        Evaluation(tmp_path / "out", config=config)


def test_the_examples_command_runs(example, capsys):
    assert main(["greet", "--name", "all"]) == 0 and capsys.readouterr().out == "hello, all\n"
