"""Checkpoint files as trees of plain data and stored tensors, whatever wrote them; nothing in them is run.

Recognised by content: PyTorch's zip archives, its older stream of pickles, plain pickles (NVIDIA's), safetensors.
A tree is made of dict, list, tuple, str, numbers, `pickles.Record` and `tensors.StoredTensor`.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from torch import Tensor

from sigan import archives, tensors
from sigan.errors import WeightsError
from sigan.pickles import Allowed, Budget, Kind, Record, Refusal, Refused, load, plain_key

STREAM = 0x1950A86A20F9469CFC6C  # first number of PyTorch's older format
STREAM_VERSION = 1001
MAX_PICKLE = 2**28  # bytes of an archive's data.pkl, which holds no numbers
ARCHIVED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR",
            b"\x28\xb5\x2f\xfd": "Zstandard"}
OTHERS = {b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture", b"\x89HDF": "an HDF5 file", b"%PDF": "a PDF",
          b"version https://git-lfs": "a Git LFS pointer: the address of a file, not the file", b"\x7fELF": "a program"}
AGAIN = "download it again, and compare its size"


def read(path: str | Path) -> Any:
    """The tree in a checkpoint; its tensors are views of the file, which must stay as it is while they are used.

    WeightsError names what the file is when it is no checkpoint, where it ends when it is cut short, and everything
    it asks to run.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # private: a view may be written to
    except ValueError as error:
        raise WeightsError(f"{path} is empty", AGAIN) from error
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}", "check the path and its permissions"
                           ) from error
    data, source = memoryview(mapped), str(path)
    head = bytes(data[:512])
    if head.startswith((archives.LOCAL, archives.END)):
        return _archive(data, source)
    if head[8:10] == b'{"' or head[8:9] == b"{" and int.from_bytes(head[:8], "little") < len(data):
        return _safetensors(path)
    _refuse_others(head, source)
    return _pickles(data, source)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors by name in a file that is a state dict and nothing else, as torchvision saves networks.

    Errors and the lives of the tensors are as `read` says; WeightsError, too, for a file that holds something else.
    """
    tree = read(path)
    tree = tree.state if isinstance(tree, Record) and tree.kind == "safetensors" else tree
    if not isinstance(tree, dict) or not all(isinstance(key, str) and isinstance(value, (Tensor, tensors.StoredTensor))
                                             for key, value in tree.items()):
        raise WeightsError(f"{path} is no state dict: tensors by name", "give the file that holds the network alone")
    return {key: value if isinstance(value, Tensor) else value.read() for key, value in tree.items()}


def _refuse_others(head: bytes, source: str) -> None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")):
        raise WeightsError(f"{source} is a web page, not weights: most likely a download site's notice",
                           "open the address in a browser, download the file there, and import it")
    for magic, name in ARCHIVED.items():
        if head.startswith(magic):
            raise WeightsError(f"{source} is packed with {name}", "unpack it and import what was inside")
    for magic, name in OTHERS.items():
        if head.startswith(magic):
            raise WeightsError(f"{source} is {name}, not weights", "give the file of weights")
    if head[257:262] == b"ustar":
        raise WeightsError(f"{source} is a tar archive, perhaps a checkpoint of PyTorch before 0.2",
                           "unpack it and import what was inside; a checkpoint, load and save it with a newer PyTorch")


def _safetensors(path: Path) -> Record:
    """A record whose only argument is the metadata, and whose state the tensors by name."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return Record("safetensors", (file.metadata() or {},), {key: file.get_tensor(key) for key in file.keys()})
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is broken or no safetensors file: {error}", AGAIN) from error


# ---- PyTorch's archive

def _archive(data: memoryview, source: str) -> Any:
    found = archives.entries(data, source)
    pickled = [name for name in found if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickled) != 1:
        raise WeightsError(f"{source} is an archive, but no checkpoint: it holds {_some(found)}",
                           "unpack it and import the checkpoint inside, if there is one")
    folder = pickled[0].removesuffix("data.pkl")
    if bytes(found.get(folder + "byteorder", b"little")[:16]) != b"little":
        raise WeightsError(f"{source} holds big-endian numbers", "save it on a little-endian machine")
    if len(found[pickled[0]]) > MAX_PICKLE:
        raise WeightsError(f"{source}: its data.pkl is of {len(found[pickled[0]]):,} bytes", "take another file")
    storages: dict[str, tensors.Storage] = {}

    def persistent(key: Any) -> tensors.Storage:
        storage, name = tensors.declared(key)
        if name not in storages:
            entry = f"{folder}data/{name}"
            if entry not in found:
                raise WeightsError(f"{source} lacks the numbers of entry {ascii(entry)}", AGAIN)
            storage.fill(found[entry])
            storages[name] = storage
        return storages[name]

    return load(found[pickled[0]], _allowed(), source, persistent=persistent)[0]


def _some(names: Collection[str]) -> str:
    shown = [ascii(name)[1:-1][:60] for name in list(names)[:5]]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if shown else "nothing"


# ---- pickles one after another

def _pickles(data: memoryview, source: str) -> Any:
    """A plain pickle, or PyTorch's older format, which begins with a number that nobody would pickle."""
    budget = Budget(source)
    try:
        value, at = load(data, _allowed(), source, budget=budget)
    except Refusal:
        raise
    except WeightsError:
        if data[0] != 0x80:
            raise WeightsError(f"{source} is no checkpoint of a known kind: it begins with {bytes(data[:16])!r}",
                               "give PyTorch's .pt or .pth, NVIDIA's .pkl, or .safetensors") from None
        raise
    if value == STREAM:
        return _stream(data, at, source, budget)
    if at != len(data):
        raise WeightsError(f"{source}: {len(data) - at:,} bytes follow the pickle", AGAIN)
    return value


def _stream(data: memoryview, at: int, source: str, budget: Budget) -> Any:
    """PyTorch's older format after its first number: version, machine, tree, keys of the storages, their bytes."""
    allowed = _allowed(nested=False)
    storages: dict[str, tensors.Storage] = {}

    def persistent(key: Any) -> tensors.Storage:
        storage, name = tensors.declared(key)
        return storages.setdefault(name, storage)

    version, at = load(data, allowed, source, start=at, budget=budget)
    machine, at = load(data, allowed, source, start=at, budget=budget)
    if version != STREAM_VERSION or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise WeightsError(f"{source}: a checkpoint of another version or of a big-endian machine", "take another file")
    tree, at = load(data, allowed, source, start=at, budget=budget, persistent=persistent)
    keys, at = load(data, allowed, source, start=at, budget=budget)
    if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys) or (
            sorted(map(str, keys)) != sorted(storages)):
        raise WeightsError(f"{source}: storages are not as listed", AGAIN)
    for key in keys:
        storage = storages[str(key)]
        size = storage.numel * storage.dtype.itemsize
        if at + 8 + size > len(data) or int.from_bytes(data[at : at + 8], "little") != storage.numel:
            raise WeightsError(f"{source} ends early: storage {key} of {size:,} bytes is not whole", AGAIN)
        storage.fill(data[at + 8 : at + 8 + size])
        at += 8 + size
    return tree


def _from_bytes(budget: Budget, raw: memoryview) -> tensors.Storage:
    """A storage within a plain pickle, in PyTorch's older format."""
    if not isinstance(raw, memoryview):
        raise TypeError("a storage that is not bytes")
    value, at = load(raw, _allowed(nested=False), budget.source, budget=budget)
    storage = _stream(raw, at, budget.source, budget) if value == STREAM else None
    if not isinstance(storage, tensors.Storage):
        raise ValueError("bytes that are no storage")
    return storage


# ---- names that pickles may use: Python's

def _mapping(budget: Budget, items: Any = ()) -> dict[Any, Any]:
    """An OrderedDict or its like, from nothing, pairs or a dict."""
    pairs = list(items.items()) if isinstance(items, dict) else items
    if not isinstance(pairs, (list, tuple)):
        raise TypeError(f"a mapping made of a {type(pairs).__name__}")
    budget.spend(len(pairs))
    return {plain_key(key): value for key, value in pairs}


def _set(budget: Budget, items: Any = ()) -> set[Any]:
    if not isinstance(items, (list, tuple)):
        raise TypeError(f"a set made of a {type(items).__name__}")
    budget.spend(len(items))
    return set(map(plain_key, items))


def _bytes(budget: Budget, text: str, encoding: str) -> memoryview:
    """Bytes as protocol 2 writes them: text in latin-1."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes by way of another encoding than latin-1")
    budget.spend(len(text) // 256)
    return memoryview(text.encode("latin-1"))


def _reconstructed(budget: Budget, kind: Kind | Refused, base: Any, state: Any) -> Record | Refused:
    """What copyreg rebuilds objects of protocols 0 and 1 with."""
    if isinstance(kind, Refused):
        return kind
    return Record(kind.name, (state,))


def _path(budget: Budget, *parts: str) -> str:
    budget.spend(sum(map(len, parts)))
    return "/".join(parts)


PLAIN: dict[str, Kind | Callable[..., Any]] = {
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": lambda budget, factory=None: {},
    **{f"{module}.{name}": _set for module in ("builtins", "__builtin__") for name in ("set", "frozenset")},
    **{f"{module}.{name}": Kind(name) for module in ("builtins", "__builtin__") for name in ("object", "list", "dict")},
    **{f"{module}._reconstructor": _reconstructed for module in ("copyreg", "copy_reg")},
    **{f"{module}.bytes": lambda budget: memoryview(b"") for module in ("builtins", "__builtin__")},  # of nothing
    "_codecs.encode": _bytes,
    **{f"pathlib.{name}": _path for name in ("Path", "PurePath", "PosixPath", "WindowsPath", "PurePosixPath",
                                             "PureWindowsPath")},
    "argparse.Namespace": Kind("argparse.Namespace"),
    "types.SimpleNamespace": Kind("types.SimpleNamespace"),
}


# ---- and NVIDIA's

def _persistent(budget: Budget, meta: dict[str, Any]) -> Record:
    """An object that carries its own source, which is left alone: its class and attributes."""
    if not isinstance(meta["class_name"], str):
        raise TypeError("a class without a name")
    return Record(meta["class_name"], (), meta["state"])


NVIDIA: dict[str, Any] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
    "dnnlib.tflib.network.Network": Kind("dnnlib.tflib.network.Network"),
    **{f"{module}.EasyDict": Kind("EasyDict") for module in ("dnnlib", "dnnlib.util", "easydict")},
}


def _allowed(nested: bool = True) -> Allowed:
    table = {**PLAIN, **tensors.ALLOWED, **NVIDIA}
    return {**table, "torch.storage._load_from_bytes": _from_bytes} if nested else table
