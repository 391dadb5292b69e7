"""Work shared among the devices at hand, in batches that fit their memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from sigan import runtime
from sigan.errors import ConfigError

# What torch says of memory: CUDA's allocator, the CPU's on Windows and on Linux, cuBLAS and cuDNN.
SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")


def every(name: str) -> list[torch.device]:
    """The devices that `auto`, `cpu`, `cuda` or `cuda:N` means: with no number, all of this machine."""
    first = runtime.resolve_device(name)
    if first.type != "cuda" or first.index is not None:
        return [first]
    return [torch.device("cuda", k) for k in range(torch.cuda.device_count())]


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory did not suffice, the device's or the machine's."""
    return isinstance(error, MemoryError) or isinstance(error, RuntimeError) and any(s in str(error) for s in SIGNS)


class Room:
    """How much fits at once, as learned by trying: nothing is known at first, and what was learned stays."""

    def __init__(self) -> None:
        self.most: int | None = None
        self._notes: list[str] = []

    def apply(self, function: Callable[[Sequence[Any]], list[Any]], parts: Sequence[Any]) -> list[Any]:
        """function(parts), one result for each; in halves, and halves of them, where memory does not suffice.

        ConfigError when it does not suffice for one.
        """
        results: list[Any] = []
        while len(results) < len(parts):
            some = parts[len(results):][:self.most]
            try:
                results += function(some)
                continue
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                if len(some) == 1:
                    raise ConfigError(f"memory does not suffice for one face at a time ({_first_line(error)})",
                                      "close other programs, or choose another --device or a smaller --base") from error
            self.most = len(some) // 2  # here, where the error and all that its frames hold is gone
            self._notes.append(f"memory did not suffice for {len(some)} faces at once: {self.most} from here on")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return results

    def notes(self) -> list[str]:
        """What has not been told yet: the last step down alone."""
        told, self._notes = self._notes[-1:], []
        return told


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


class RoundRobin:
    """Several functions that give the same, as one: each gets every n-th part, all at once, in threads of their own.

    Results come in the parts' order. A function is never called twice at once.
    """

    def __init__(self, functions: Iterable[Callable[[Sequence[Any]], list[Any]]]) -> None:
        self.functions = list(functions)
        self._locks = [threading.Lock() for _ in self.functions]

    def __call__(self, parts: Sequence[Any]) -> list[Any]:
        count = min(len(self.functions), len(parts))
        if count < 2:
            return self._call(0, parts)
        results: list[Any] = [None] * len(parts)
        with ThreadPoolExecutor(count, thread_name_prefix="sigan-device") as pool:
            futures = [pool.submit(self._call, k, parts[k::count]) for k in range(count)]
            for k, future in enumerate(futures):
                results[k::count] = future.result()
        return results

    def _call(self, k: int, parts: Sequence[Any]) -> list[Any]:
        with self._locks[k]:
            return self.functions[k](parts)
