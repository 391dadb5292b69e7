"""What is played back equals what was recorded."""

from __future__ import annotations

import pytest
import torch

from sigan.captured import Captured


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs a GPU")
def test_played_back_steps_are_plain_steps():
    weight, other = (torch.full((4,), 2.0, device="cuda", requires_grad=True) for _ in range(2))

    def step(own):
        def run(x, y):
            term = (own * x).square().sum() + (0 if y is None else y.sum())
            term.backward()
            return {"term": term.detach()}
        return run

    def clear():
        weight.grad.zero_()

    captured = Captured(step(weight), clear)
    for n, scale in ((3, 1.0), (3, 2.0), (5, 3.0)):  # the last has another shape
        x = torch.full((n, 4), scale, device="cuda")
        for y in (None, x):
            if weight.grad is not None:
                clear()
            other.grad = None
            told, expected = captured(x, y), step(other)(x, y)
            torch.testing.assert_close(told["term"], expected["term"])
            torch.testing.assert_close(weight.grad, other.grad)


def test_without_a_graph_the_function_runs_as_it_is(monkeypatch):
    """The recording fails as it does on a GPU where an operation cannot be recorded."""
    runs, resets = [], []

    def function(x, y):
        runs.append(len(x))
        return {"sum": x.sum()}

    class Refusing:
        def __init__(self, *_):
            raise RuntimeError("operation not permitted when stream is capturing")

    class Stream:
        def wait_stream(self, other):
            pass

    for name, value in {"Stream": Stream, "current_stream": Stream, "CUDAGraph": object, "graph": Refusing,
                        "stream": lambda _: torch.no_grad(), "synchronize": lambda: None}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    captured = Captured(function, lambda: resets.append(1))
    assert captured(torch.ones(2), None)["sum"] == 2 and captured(torch.ones(2) * 3, None)["sum"] == 6
    assert len(resets) == 1 and runs == [2] * 5  # three to warm up, then the two asked for
    captured(torch.ones(4), None)
    assert len(resets) == 2
