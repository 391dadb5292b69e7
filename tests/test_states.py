"""A state comes back bit by bit; what is none is refused."""

from __future__ import annotations

import pytest
import torch

from sigan import runtime, states
from sigan.errors import WeightsError


def test_a_state_comes_back(tmp_path):
    weight = torch.randn(3, 4)
    state = {"done": 3, "loss": 0.1 + 0.2, "none": None, "list": [1, [True, "text"]],
             "nested": {0: {"step": torch.tensor(3.0), "view": weight.t()},
                        "bytes": torch.arange(9, dtype=torch.uint8)},
             "again": weight, "empty": {}}
    states.write(tmp_path / "a/state.safetensors", state)
    found = states.read(tmp_path / "a/state.safetensors")
    assert {key: found[key] for key in ("done", "loss", "none", "list", "empty")} == {
        key: state[key] for key in ("done", "loss", "none", "list", "empty")}
    assert found["nested"][0]["step"] == 3 and torch.equal(found["nested"][0]["view"], weight.t())
    assert found["nested"]["bytes"].dtype == torch.uint8 and torch.equal(found["again"], weight)


def test_an_optimiser_goes_on_from_its_state(tmp_path):
    def run(steps: int, start: dict | None = None):
        parameter = torch.nn.Parameter(torch.ones(5))
        optimiser = torch.optim.Adam([{"params": [parameter], "scale": 5.0}], lr=0.1, betas=(0.0, 0.99))
        if start:
            parameter.data = start["parameter"]
            optimiser.load_state_dict(start["optimiser"])
        for _ in range(steps):
            optimiser.zero_grad()
            (parameter.sin() * torch.arange(5)).sum().backward()
            optimiser.step()
        return {"parameter": parameter.detach(), "optimiser": optimiser.state_dict()}

    states.write(tmp_path / "s", run(3))
    assert torch.equal(run(4, states.read(tmp_path / "s"))["parameter"], run(7)["parameter"])


@pytest.mark.parametrize("content", [b"", b"torn", b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_what_is_no_state_is_refused(tmp_path, content):
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(WeightsError, match="holds no state"):
        states.read(tmp_path / "state")


def test_states_lie_in_the_home_folder_by_name_and_key():
    path = states.path("ink", "ab" * 32)
    assert path.parent == runtime.home() / "training" and path.name.startswith("ink-abab")
    assert path != states.path("ink", "cd" * 32) != states.path("line", "cd" * 32)
