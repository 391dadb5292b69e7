"""Tensors that still lie in their file: where the numbers are, their type and shape; read when asked for.

PyTorch's and NumPy's own names for how a tensor is rebuilt, as functions for `pickles.load`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from sigan.errors import WeightsError
from sigan.pickles import Budget, Kind, Record

Sizes = tuple[int, ...]
SPREAD = 2**20  # elements to which a tensor may be repeated beyond its storage (an expanded mean code)
MAX_AXES = 16
STORAGES = {"Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
            "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
            "Bool": torch.bool}
DTYPES = {"f8": torch.float64, "f4": torch.float32, "f2": torch.float16, "i8": torch.int64, "i4": torch.int32,
          "i2": torch.int16, "i1": torch.int8, "u1": torch.uint8, "b1": torch.bool}


class Storage:
    """Numbers of one type in a row; the bytes may become known after the tensors that use them."""

    def __init__(self, dtype: torch.dtype, numel: int, data: memoryview | None = None):
        if not isinstance(dtype, torch.dtype) or not isinstance(numel, int) or numel < 0:
            raise ValueError("a storage of no type or size")
        self.dtype, self.numel = dtype, numel
        self.data: memoryview | None = None
        if data is not None:
            self.fill(data)

    def fill(self, data: memoryview) -> None:
        """Says where the bytes are. ValueError when they are not as many as declared."""
        if len(data) != self.numel * self.dtype.itemsize:
            raise ValueError(f"a storage of {self.numel:,} {self.dtype} and {len(data):,} bytes")
        self.data = data

    def read(self) -> Tensor:
        """All numbers: a view of the file where the processor can read them in place, else a copy.  [numel]"""
        if not self.numel:
            return torch.empty(0, dtype=self.dtype)
        if self.data is None:
            raise ValueError("a storage without numbers")
        data = bytearray(self.data) if self.data.readonly else self.data
        flat = torch.frombuffer(data, dtype=torch.uint8)
        if flat.data_ptr() % self.dtype.itemsize:
            flat = flat.clone()
        return flat.view(self.dtype)


class StoredTensor:
    """A tensor not yet read: part of a storage."""

    def __init__(self, storage: Storage, offset: int, shape: Sizes, stride: Sizes):
        if not isinstance(storage, Storage) or len(shape) != len(stride) or len(shape) > MAX_AXES:
            raise ValueError("a tensor without storage or shape")
        if not all(isinstance(n, int) and 0 <= n < 2**48 for n in (offset, *shape, *stride)):
            raise ValueError("a tensor whose offset, shape or strides are no sizes")
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride))
        if self.numel and last >= storage.numel:
            raise ValueError(f"a tensor that reaches to {last:,} of {storage.numel:,} numbers")
        if self.numel > max(storage.numel, SPREAD):
            raise ValueError(f"a tensor of {self.numel:,} numbers in a storage of {storage.numel:,}")

    @property
    def dtype(self) -> torch.dtype:
        return self.storage.dtype

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    def read(self) -> Tensor:
        """The tensor itself, a view of the file where possible; its values may change with the file's."""
        if not self.numel:
            return torch.empty(self.shape, dtype=self.dtype)
        return self.storage.read().as_strided(self.shape, self.stride, self.offset)


class _Array(StoredTensor):
    """A NumPy array, which says what it is only when it is built."""

    def __init__(self) -> None:
        super().__init__(Storage(torch.uint8, 0), 0, (0,), (1,))

    def build(self, state: tuple[int, Sizes, _Dtype, bool, memoryview]) -> None:
        _, shape, dtype, fortran, raw = state
        super().__init__(_storage(dtype, raw), 0, tuple(shape), _strides(tuple(shape), bool(fortran)))


class _Dtype:
    """A NumPy type by its code, as `f4`; big-endian numbers and objects are refused."""

    def __init__(self, code: str):
        if not isinstance(code, str) or code not in DTYPES:
            raise ValueError("an array of no type that weights have")
        self.dtype = DTYPES[code]

    def build(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", "|", "="):
            raise ValueError("an array of big-endian numbers")


# Arguments are annotated as they should be; they come from the file, and are checked where they are used.

def _storage(dtype: _Dtype, raw: memoryview) -> Storage:
    data = memoryview(raw)
    return Storage(dtype.dtype, len(data) // dtype.dtype.itemsize, data)


def _strides(shape: Sizes, fortran: bool = False) -> Sizes:
    if len(shape) > MAX_AXES:
        raise ValueError(f"an array of {len(shape):,} axes")
    sizes = shape if fortran else shape[::-1]
    steps = [math.prod(sizes[:i]) for i in range(len(sizes))]
    return tuple(steps if fortran else steps[::-1])


def _size(budget: Budget, shape: Collection[int]) -> Sizes:
    budget.spend(len(shape))
    return tuple(shape)


def _tensor(budget: Budget, storage: Storage, offset: int, shape: Sizes, stride: Sizes, *rest: object) -> StoredTensor:
    return StoredTensor(storage, offset, shape, stride)


def _parameter(budget: Budget, data: StoredTensor, *rest: object) -> StoredTensor:
    return data


def _array(budget: Budget, kind: Kind, shape: Sizes, code: memoryview) -> _Array:
    return _Array()


def _scalar(budget: Budget, dtype: _Dtype, raw: memoryview) -> int | float | bool:
    return _storage(dtype, raw).read()[0].item()


def _from_buffer(budget: Budget, raw: memoryview, dtype: _Dtype, shape: Sizes, order: str) -> StoredTensor:
    return StoredTensor(_storage(dtype, raw), 0, tuple(shape), _strides(tuple(shape), order == "F"))


ALLOWED: dict[str, Any] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": Kind("torch.nn.Parameter"),
    "torch.Size": _size,
    "torch.device": lambda budget, *parts: Record("torch.device", parts),
    **{f"{module}.{name}Storage": Kind(name) for module in ("torch", "torch.cuda") for name in STORAGES},
    **{f"{module}.UntypedStorage": Kind("Byte") for module in ("torch", "torch.storage")},
    **{str(dtype): Kind(str(dtype)) for dtype in set(STORAGES.values())},
    **{f"{module}.multiarray._reconstruct": _array for module in ("numpy.core", "numpy._core")},
    **{f"{module}.multiarray.scalar": _scalar for module in ("numpy.core", "numpy._core")},
    **{f"{module}.numeric._frombuffer": _from_buffer for module in ("numpy.core", "numpy._core")},
    "numpy.ndarray": Kind("numpy.ndarray"),
    "numpy.dtype": lambda budget, code, *rest: _Dtype(code),
}


def declared(key: Any) -> tuple[Storage, str]:
    """The storage that a persistent id of PyTorch stands for, and its key."""
    name, kind, key, _, numel, *view = key
    if name != "storage" or not isinstance(kind, Kind) or kind.name not in STORAGES or not isinstance(key, (str, int)):
        raise ValueError("a persistent id that is no storage")
    if view and view[0] is not None:
        raise WeightsError("a checkpoint of PyTorch before 0.4, whose storages share memory",
                           "load and save it with a newer PyTorch, on a machine that trusts it")
    return Storage(STORAGES[kind.name], numel), str(key)
