"""Captured: a function of tensors recorded once as a CUDA graph, then played back without Python in between."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # runs before recording, in which libraries choose their algorithms


class Captured:
    """`function(*tensors)` on a GPU; inputs may be None, and keep their shapes. Other shapes are recorded anew.

    reset() undoes what a run adds up, after the warm-up. Where a graph cannot be recorded, the function runs as it is.
    """

    def __init__(self, function: Callable[..., dict[str, Tensor]], reset: Callable[[], None]):
        self.function, self.reset = function, reset
        self.shapes: list[torch.Size | None] | None = None
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor | None) -> dict[str, Tensor]:
        """What the function gives; the tensors are overwritten by the next call."""
        shapes = [None if x is None else x.shape for x in inputs]
        if shapes != self.shapes:
            self.shapes = shapes
            self._record(inputs)
        if self.graph is None:
            return self.function(*inputs)
        for own, given in zip(self.inputs, inputs):
            if own is not None:
                own.copy_(given)
        self.graph.replay()
        return self.outputs

    def _record(self, inputs: tuple[Tensor | None, ...]) -> None:
        self.graph, self.inputs = None, [None if x is None else x.clone() for x in inputs]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self.function(*self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.outputs = self.function(*self.inputs)
            self.graph = graph
        except RuntimeError:  # an operation that cannot be recorded; plain steps are right, only slower
            torch.cuda.synchronize()
        self.reset()
