"""Zip archives as PyTorch writes them, read in place: names to views of the file, nothing unpacked.

What PyTorch never writes is refused by name: compression, encryption, paths that lead elsewhere, sizes that are not
in the file, entries that overlap. Layout: PKWARE's APPNOTE, sections 4.3 and 4.5.3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sigan.errors import WeightsError

MAX_ENTRIES = 100_000  # a checkpoint has one for each tensor
END, END64, LOCATOR64, CENTRAL, LOCAL = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4"
FULL16, FULL32 = 0xFFFF, 0xFFFFFFFF  # "see the 64-bit field"
REMEDY = "take the file from its author's page"
AGAIN = "download it again, and compare its size"


def entries(data: memoryview, source: str) -> dict[str, memoryview]:
    """The archive's entries by name. WeightsError says which entry is not as PyTorch writes it."""
    found: dict[str, memoryview] = {}
    spans: list[tuple[int, int, str]] = []
    for name, start, size in _directory(data, source):
        if name.startswith(("/", "\\")) or name[1:2] == ":" or ".." in name.replace("\\", "/").split("/"):
            raise WeightsError(f"{source}: an archive with the path {ascii(name)}, which leads out of it", REMEDY)
        if name in found:
            raise WeightsError(f"{source}: two entries named {ascii(name)}", REMEDY)
        begin = _content(data, start, name, source)
        if begin + size > len(data):
            raise WeightsError(f"{source} ends early: entry {ascii(name)} says {size:,} bytes, and "
                               f"{max(len(data) - begin, 0):,} follow", AGAIN)
        found[name] = data[begin : begin + size]
        spans.append((start, begin + size, name))
    spans.sort()
    for (_, end, before), (start, _, name) in zip(spans, spans[1:]):
        if start < end:
            raise WeightsError(f"{source}: entries {ascii(before)} and {ascii(name)} overlap", REMEDY)
    return found


def _directory(data: memoryview, source: str) -> Iterator[tuple[str, int, int]]:
    """Name, offset of its local header, size of each entry."""
    count, size, at = _end(data, source)
    if count > MAX_ENTRIES:
        raise WeightsError(f"{source}: an archive of {count:,} entries; a checkpoint has no more than "
                           f"{MAX_ENTRIES:,}", REMEDY)
    if at + size > len(data):
        raise WeightsError(f"{source} ends early: its index lies beyond the end", AGAIN)
    for _ in range(count):
        if bytes(data[at : at + 4]) != CENTRAL or at + 46 > len(data):
            raise WeightsError(f"{source}: the archive's index is broken at {at:,}", AGAIN)
        flags, method = struct.unpack_from("<HH", data, at + 8)
        packed, size, n_name, n_extra, n_comment = struct.unpack_from("<IIHHH", data, at + 20)
        start = struct.unpack_from("<I", data, at + 42)[0]
        name = bytes(data[at + 46 : at + 46 + n_name]).decode("utf-8", "replace")
        extra = data[at + 46 + n_name : at + 46 + n_name + n_extra]
        size, packed, start = _wide(extra, [size, packed, start])
        if "/code/" in name:
            raise WeightsError(f"{source} is a TorchScript program: it holds code ({ascii(name)})",
                               "give a file of weights")
        if flags & 1:
            raise WeightsError(f"{source}: entry {ascii(name)} is encrypted", REMEDY)
        if method or packed != size:
            raise WeightsError(f"{source}: entry {ascii(name)} is compressed ({packed:,} bytes that say they are "
                               f"{size:,}); PyTorch compresses nothing",
                               "unpack the archive first if the checkpoint is inside, else " + REMEDY)
        yield name, start, size
        at += 46 + n_name + n_extra + n_comment


def _end(data: memoryview, source: str) -> tuple[int, int, int]:
    """Entries, size and offset of the index, from the end of the archive."""
    tail = bytes(data[-(22 + FULL16) :])
    where = tail.rfind(END)
    if where < 0 or where + 22 > len(tail):
        raise WeightsError(f"{source} ends early, at {len(data):,} bytes: the archive's index, at its end, is missing",
                           AGAIN)
    where += len(data) - len(tail)
    count, size, at = struct.unpack_from("<HII", data, where + 10)
    if (count == FULL16 or FULL32 in (size, at)) and bytes(data[max(where - 20, 0) : where][:4]) == LOCATOR64:
        wide = struct.unpack_from("<Q", data, where - 12)[0]
        if bytes(data[wide : wide + 4]) != END64 or wide + 56 > len(data):
            raise WeightsError(f"{source}: the archive's 64-bit index is broken", AGAIN)
        count, size, at = struct.unpack_from("<QQQ", data, wide + 32)
    return count, size, at


def _wide(extra: memoryview, values: list[int]) -> list[int]:
    """The values with those that did not fit in 32 bits taken from the extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            places = [i for i, value in enumerate(values) if value == FULL32]
            wide = extra[at + 4 : at + 4 + min(size, 8 * len(places))]
            for i, (value,) in zip(places, struct.iter_unpack("<Q", wide[: len(wide) // 8 * 8])):
                values[i] = value
            break
        at += 4 + size
    return values


def _content(data: memoryview, start: int, name: str, source: str) -> int:
    """Offset of an entry's first byte."""
    if start + 30 > len(data) or bytes(data[start : start + 4]) != LOCAL:
        raise WeightsError(f"{source}: entry {ascii(name)} is not where the index says", AGAIN)
    n_name, n_extra = struct.unpack_from("<HH", data, start + 26)
    return start + 30 + n_name + n_extra
