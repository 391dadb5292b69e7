"""PackManifest: what a style pack says of itself; and its reader, which needs the standard library alone.

A pack may come from anyone, so that everything is bounded and checked before it is believed: docs/style-packs.md.
"""

from __future__ import annotations

import base64
import json
import math
import re
import stat
import struct
import unicodedata
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from sigan.errors import PackError

FORMAT = 1
KEY, PREVIEW_KEY = "sigan", "modelspec.thumbnail"  # of the file's metadata
MAX_FILE = 128 << 20  # bytes: all of the 1024² generator in fp16 has 57 MB
MAX_NUMBERS = 64 << 20  # in all tensors: that generator has 28 million
MAX_HEADER = 1 << 20  # bytes of JSON: 300 tensors, the manifest, the preview
MAX_MANIFEST = 128 << 10  # bytes of JSON
MAX_TENSORS, MAX_AXES = 4096, 8
MAX_TEXT, MAX_CARD = 1000, 16_000  # characters
MAX_DEPTH, MAX_VALUES = 8, 10_000  # of `config` and `figures`
MAX_PREVIEW, MAX_PREVIEW_PIXELS = 256 << 10, 2 << 20  # bytes; pixels
MAX_INTEGER = 2**64  # seeds go so far
TYPES = {"F16": (2, 1), "U8": (1, 2)}  # what a pack's tensors may be: bytes of an element, and numbers in it
PREVIEWS = ("png", "webp")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,199}")  # a blend's too: no folders, no spaces
HASH = re.compile(r"[0-9a-f]{64}")
FETCH_AGAIN = "fetch the pack again, or ask whoever made it"
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode's controls, halves of characters, separators of lines
# Marks that show words in another order than they stand (https://trojansource.codes)
REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

Object = dict[str, Any]  # of JSON
T = TypeVar("T")


@dataclass(frozen=True)
class PackManifest:
    """What a pack is, what it belongs to, and how it was made; `config` is the recipe's full configuration."""

    name: str
    base: str
    base_hash: str  # sha256 of the base generator's file, hex
    base_resolution: int
    recipe: str
    config: Object
    seed: int
    steps: int
    references: int
    licence: str
    author: str = ""
    created: str = ""  # ISO 8601
    perceptual: str = ""  # the loss it was trained with
    format: int = FORMAT
    card: str = ""
    base_licence: str = ""  # of the base it was tuned from: a pack derives from it
    references_licence: str = ""  # as whoever trained it declares; "" is not declared
    figures: Object = field(default_factory=dict)  # measured when it was trained (docs/style-packs.md)
    made_with: str = ""  # program and version

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> PackManifest:
        """The manifest of a JSON text. PackError on another format, or naming every field that is wrong."""
        if len(text) > MAX_MANIFEST:
            raise PackError(f"the pack's manifest has {len(text)} characters; {MAX_MANIFEST} are enough", FETCH_AGAIN)
        values = _json(text, "the pack's manifest")
        if values.get("format") != FORMAT or type(values["format"]) is not int:
            raise PackError(f"pack format {quoted(values.get('format'))}; this sigan reads format {FORMAT}",
                            "`pip install --upgrade sigan`, or ask for the pack in this format")
        faults = [f"unknown {quoted(name)}" for name in sorted(set(values) - {field.name for field in fields(cls)})]
        for field_ in fields(cls):
            if field_.name not in values:
                required = field_.default is MISSING and field_.default_factory is MISSING
                faults += [f"missing {field_.name}"] if required else []
            elif fault := _fault(field_.name, str(field_.type), values[field_.name]):
                faults.append(f"{field_.name} is {quoted(values[field_.name])}, {fault}")
        if faults:
            raise PackError(f"the pack's manifest is invalid: {'; '.join(faults[:8])}", FETCH_AGAIN)
        return cls(**values)


def _fault(name: str, kind: str, value: object) -> str:
    """Why a field of type `kind` may not hold a value; "" when it may."""
    if kind == "int":
        if type(value) is not int:
            return "not int"
        return "" if (0 if name != "seed" else -MAX_INTEGER) <= value <= MAX_INTEGER else "out of range"
    if kind == "Object":
        return _tree_fault(value) if type(value) is dict else "not dict"
    if type(value) is not str:
        return "not str"
    if name in ("name", "base") and not NAME.fullmatch(value):
        return "not letters, digits, '.', '_', '-'"
    if name == "base_hash" and not HASH.fullmatch(value):
        return "not 64 hexadecimal digits"
    return _text_fault(value, MAX_CARD if name == "card" else MAX_TEXT, lines=name == "card")


def _text_fault(text: str, limit: int, lines: bool = False) -> str:
    if len(text) > limit:
        return f"longer than {limit} characters"
    return "" if printable(text, lines) else "not printable text"


def printable(text: str, lines: bool = False) -> bool:
    """Whether a text can be shown as it is: no controls (terminal escapes), nothing that reorders, no half characters.

    lines: line breaks and tabs are fine.
    """
    if text.isascii() and text.isprintable():  # nearly always, and fast
        return True
    return not any(c in REORDERING or unicodedata.category(c) in UNPRINTABLE and not (lines and c in "\n\t")
                   for c in text)


def quoted(value: object) -> str:
    """A short repr for messages, whatever the value holds."""
    if isinstance(value, (dict, list)) and any(isinstance(part, (dict, list)) for part in _parts(value)):
        return f"a {type(value).__name__} of {len(value)}"  # the repr of a deep one may not end well
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _parts(value: Object | list[object]) -> list[object]:
    return [*value.keys(), *value.values()] if isinstance(value, dict) else value


def _tree_fault(tree: Object) -> str:
    """What is wrong with a dict of JSON values: too deep, too many, or text that cannot be shown."""
    level: list[object] = [tree]
    count = 0
    for _ in range(MAX_DEPTH + 1):
        below: list[object] = []
        for value in level:
            count += 1
            if isinstance(value, (dict, list)):
                below += _parts(value)
            elif isinstance(value, str) and (fault := _text_fault(value, MAX_TEXT)):
                return f"with a text that is {fault}"
            elif isinstance(value, (int, float)) and not abs(value) <= MAX_INTEGER:
                return "with a number out of range"
        level = below
        if not level:
            return ""
        if count + len(level) > MAX_VALUES:
            return f"with more than {MAX_VALUES} values"
    return f"nested deeper than {MAX_DEPTH}"


def _json(text: str, what: str) -> Object:
    """The object a JSON text holds, every key once. PackError otherwise, whatever the text."""
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key stands twice")
        return found

    def never(constant: str) -> float:
        raise ValueError(f"{constant} is no JSON number")

    try:
        values = json.loads(text, object_pairs_hook=once, parse_constant=never)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else quoted(str(error))
        raise PackError(f"{what} is not JSON: {reason}", FETCH_AGAIN) from error
    if not isinstance(values, dict):
        raise PackError(f"{what} is not a JSON object", FETCH_AGAIN)
    return values


# ---- the file's header (https://github.com/huggingface/safetensors, "Format")

@dataclass(frozen=True)
class Header:
    """What stands before a pack's tensors; `tensors` holds type and shape by name."""

    metadata: dict[str, str]
    tensors: dict[str, tuple[str, tuple[int, ...]]]

    @property
    def manifest(self) -> PackManifest:
        return PackManifest.from_json(self.metadata[KEY])

    @property
    def preview(self) -> bytes | None:
        """The PNG or WebP file of the preview strip. PackError when it is none, or too large."""
        text = self.metadata.get(PREVIEW_KEY)
        return None if text is None else decode_preview(text)


def read_header(file: BinaryIO, size: int, tensors: bool = True) -> Header:
    """The checked header of a safetensors file of `size` bytes: tensors lie end to end and fill the file.

    tensors: False leaves them out, unchecked. PackError otherwise; no more is read than MAX_HEADER.
    """
    if size > MAX_FILE:
        raise _broken(f"it has {size >> 20} MiB, and no pack more than {MAX_FILE >> 20}")
    head = file.read(8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or not 2 <= length <= size - 8:
        raise _broken("its header is longer than the file")
    if length > MAX_HEADER:
        raise _broken(f"its header has {length} bytes, and no pack's more than {MAX_HEADER}")
    try:
        values = _json(file.read(length).decode(), "its header")
    except UnicodeDecodeError as error:
        raise _broken("its header is no text") from error
    except PackError as error:
        raise _broken(error.message) from error
    metadata = values.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _broken("its metadata are no texts")
    if KEY not in metadata:
        raise PackError("is a safetensors file, but no style pack: it has no sigan manifest",
                        "`sigan train` makes packs")
    return Header(metadata, _tensors(values, size - 8 - length) if tensors else {})


def _tensors(values: Object, size: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each tensor; they lie end to end in `size` bytes."""
    if len(values) > MAX_TENSORS:
        raise _broken(f"it has {len(values)} tensors, and no pack more than {MAX_TENSORS}")
    tensors, spans, numbers = {}, [], 0
    for name, entry in values.items():
        if not printable(name) or len(name) > MAX_TEXT:
            raise _broken(f"a tensor is called {quoted(name)}")
        kind, shape, span = _entry(name, entry)
        tensors[name] = kind, shape
        spans.append((*span, name))
        numbers += math.prod(shape) * TYPES[kind][1]
    if numbers > MAX_NUMBERS:
        raise _broken(f"it has {numbers} numbers, and no pack more than {MAX_NUMBERS}")
    end = 0
    for first, last, name in sorted(spans):
        if first != end:
            raise _broken(f"tensor {name} does not begin where the one before it ends")
        end = last
    if end != size:
        raise _broken(f"its tensors end at byte {end}, the file at {size}")
    return tensors


def _entry(name: str, entry: object) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """Type, shape and span of one tensor, as far as they agree."""
    def count(value: object) -> bool:
        return type(value) is int and 0 <= value <= MAX_FILE

    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _broken(f"tensor {name} is not described by dtype, shape and data_offsets")
    kind, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in TYPES:
        raise _broken(f"tensor {name} is of type {quoted(kind)}, not {' or '.join(TYPES)}")
    if not isinstance(shape, list) or len(shape) > MAX_AXES or not all(map(count, shape)):
        raise _broken(f"tensor {name} has the shape {quoted(shape)}")
    if not isinstance(span, list) or len(span) != 2 or not all(map(count, span)):
        raise _broken(f"tensor {name} lies at {quoted(span)}")
    if span[1] - span[0] != math.prod(shape) * TYPES[kind][0]:
        raise _broken(f"tensor {name} of shape {quoted(shape)} does not fill {quoted(span)}")
    return kind, tuple(shape), (span[0], span[1])


def _broken(reason: str) -> PackError:
    return PackError(f"is no valid safetensors file of a pack: {reason}", FETCH_AGAIN)


# ---- files

def open_pack(path: str | Path) -> tuple[BinaryIO, int]:
    """The opened file and its size. PackError when it cannot be read, or is no plain file (a pipe, a device)."""
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):
            raise PackError(f"{path} is not a file", "give the path of a pack")
        return open(path, "rb"), found.st_size
    except (OSError, ValueError) as error:
        raise PackError(f"cannot read pack {path}: {getattr(error, 'strerror', None) or error}",
                        "check the path; `sigan styles list` shows the installed ones") from error


def read_manifest(path: str | Path) -> PackManifest:
    """The manifest of a pack file, whose tensors are neither read nor checked. PackError naming it when it is none."""
    return _header_of(path, lambda header: header.manifest)


def preview(path: str | Path) -> bytes | None:
    """The PNG or WebP file of a pack's preview strip, or None. PackError as `read_manifest`, or when it is no picture.

    Type and size are checked here, the pixels when the pack is loaded.
    """
    return _header_of(path, lambda header: header.preview)


def _header_of(path: str | Path, part: Callable[[Header], T]) -> T:
    file, size = open_pack(path)
    with file:
        try:
            return part(read_header(file, size, tensors=False))
        except PackError as error:
            raise named(path, error) from error
        except OSError as error:
            raise PackError(f"cannot read pack {path}: {error.strerror or error}", FETCH_AGAIN) from error


def named(path: str | Path, error: PackError) -> PackError:
    """The error with the file's name before it."""
    joint = " " if error.message.startswith("is ") else ": "
    return PackError(f"{path}{joint}{error.message}", error.hint)


# ---- the preview

def encode_preview(picture: bytes) -> str:
    """The data URI that holds a PNG or WebP file. PackError as `decode_preview`."""
    kind = "png" if picture[:4] == b"\x89PNG" else "webp"
    text = f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
    decode_preview(text)
    return text


def decode_preview(text: str) -> bytes:
    """The picture file in a data URI. PackError unless it states to be a PNG or a plain WebP of bounded size."""
    hint = "fetch the pack again, or export it anew"
    start = next((start for kind in PREVIEWS if text.startswith(start := f"data:image/{kind};base64,")), None)
    if start is None:
        raise PackError("the pack's preview is no data URI of a PNG or WebP picture", hint)
    if len(text) > MAX_PREVIEW * 4 / 3:
        raise PackError(f"the pack's preview has more than {MAX_PREVIEW >> 10} KiB", hint)
    try:
        picture = base64.b64decode(text[len(start):], validate=True)
    except ValueError as error:
        raise PackError("the pack's preview is not base64", hint) from error
    size = _size(picture)
    if size is None:
        raise PackError("the pack's preview is no PNG or WebP picture", hint)
    if not 0 < size[0] * size[1] <= MAX_PREVIEW_PIXELS:
        raise PackError(f"the pack's preview claims {size[0]} x {size[1]} pixels", hint)
    return picture


def _size(picture: bytes) -> tuple[int, int] | None:
    """Width and height that a PNG or a WebP of one frame states; None for all else."""
    if picture[:8] == b"\x89PNG\r\n\x1a\n" and picture[12:16] == b"IHDR" and len(picture) > 33:
        return struct.unpack(">II", picture[16:24])
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP" and len(picture) > 30:
        if picture[12:16] == b"VP8 " and picture[23:26] == b"\x9d\x01\x2a":
            width, height = struct.unpack("<HH", picture[26:30])
            return width & 0x3FFF, height & 0x3FFF
        if picture[12:16] == b"VP8L" and picture[20] == 0x2F:
            bits = int.from_bytes(picture[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None
