from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sigan import runtime
from sigan.errors import ConfigError


def test_auto_device_is_cuda_exactly_where_torch_sees_it():
    assert runtime.resolve_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert runtime.resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:99", ""])
def test_a_wrong_device_is_named(name):
    with pytest.raises(ConfigError) as caught:
        runtime.resolve_device(name)
    assert repr(name) in caught.value.message and caught.value.hint


def test_a_dtype_is_known_by_its_name_and_another_refused():
    assert runtime.resolve_dtype("auto", "cpu") == runtime.resolve_dtype("float32") == torch.float32
    assert runtime.resolve_dtype("bfloat16", "cuda") == torch.bfloat16
    with pytest.raises(ConfigError, match="float64"):
        runtime.resolve_dtype("float64")


def test_item_streams_depend_on_seed_and_key_only():
    def draw(seed, key):
        return torch.randn(4, generator=runtime.item_generator(seed, key))

    first = draw(1, "a.jpg")
    torch.manual_seed(99)
    draw(1, "b.jpg")
    assert torch.equal(first, draw(1, "a.jpg"))
    assert not torch.equal(first, draw(2, "a.jpg")) and not torch.equal(first, draw(1, "b.jpg"))


def test_rank_and_world_size_are_those_of_the_launcher(monkeypatch):
    monkeypatch.delenv("RANK", raising=False), monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert (runtime.rank(), runtime.world_size()) == (0, 1)
    monkeypatch.setenv("RANK", "3"), monkeypatch.setenv("WORLD_SIZE", "8")
    assert (runtime.rank(), runtime.world_size()) == (3, 8)
    monkeypatch.setenv("RANK", "third")
    with pytest.raises(ConfigError, match="RANK is 'third'"):
        runtime.rank()


def test_home_is_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("SIGAN_HOME", str(tmp_path))
    assert runtime.home() == tmp_path
    monkeypatch.delenv("SIGAN_HOME")
    assert runtime.home().name == "sigan"


def test_home_answers_without_torch():
    code = "import sys, sigan.runtime as r; r.home(); r.rank(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0
