"""Archives that are not as PyTorch writes them: each is refused with the entry's name, and nothing is unpacked."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
import torch

from sigan import archives, checkpoints
from sigan.errors import WeightsError


def made(*files: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytearray:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return bytearray(buffer.getvalue())


def entries(content: bytes) -> dict[str, memoryview]:
    return archives.entries(memoryview(content), "it")


def central(content: bytearray, n: int = 0) -> int:
    """Offset of the n-th entry in the index."""
    at = -1
    for _ in range(n + 1):
        at = content.index(archives.CENTRAL, at + 1)
    return at


def storage_of(key: str) -> bytes:
    """A pickle that asks for a storage of ten numbers, by PyTorch's persistent id."""
    return (b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX" + struct.pack("<I", len(key)) + key.encode()
            + b"X\x03\x00\x00\x00cpuK\x0atQ.")


def test_entries_are_those_of_the_standard_library():
    files = {f"archive/data/{i}": bytes(range(i)) for i in range(40)}
    content = made(*files.items())
    assert {name: bytes(data) for name, data in entries(content).items()} == files


def test_pytorch_s_own_archives_with_64_bit_fields_are_read():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("a/data.pkl", "w", force_zip64=True) as file:
        file.write(b"content")
    assert bytes(entries(buffer.getvalue())["a/data.pkl"]) == b"content"
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(5)}, buffer)
    assert any(name.endswith("/data/0") for name in entries(buffer.getvalue()))


def test_an_index_of_64_bits_is_read():
    """More entries than 16 bits count; no checkpoint has so many, but few would not use the field."""
    content = made(*((str(i), b"") for i in range(70_000)))
    assert archives.END64 in content and len(entries(content)) == 70_000


@pytest.mark.parametrize("path", ["/etc/passwd", "../../.bashrc", "archive/../../x", "C:\\x", "\\\\server\\x",
                                  "a\\..\\..\\x"])
def test_paths_that_lead_elsewhere_are_refused(path):
    content = made(("archive/data.pkl", b"N."), ("X" * len(path), b""))
    content = content.replace(b"X" * len(path), path.encode())
    with pytest.raises(WeightsError, match="which leads out of it") as caught:
        entries(content)
    assert repr(path) in caught.value.message


def test_compressed_entries_are_refused_by_their_declared_size():
    """Ten megabytes of zeros in ten kilobytes: a bomb. It is not so much as opened."""
    content = made(("archive/data/0", bytes(10_000_000)), method=zipfile.ZIP_DEFLATED)
    assert len(content) < 20_000
    with pytest.raises(WeightsError, match="'archive/data/0' is compressed .*say they are 10,000,000"):
        entries(content)


@pytest.mark.parametrize(("field", "layout", "value", "message"), [
    (20, "<II", (2**31, 2**31), "ends early: entry 'archive/data/0' says 2,147,483,648 bytes"),
    (24, "<I", (2**31,), "is compressed"),
    (42, "<I", (2**31,), "is not where the index says"),
    (42, "<I", (1,), "is not where the index says"),
    (8, "<H", (1,), "is encrypted"),
    (10, "<H", (8,), "is compressed"),
])
def test_an_index_that_lies_is_refused(field, layout, value, message):
    content = made(("archive/data/0", b"0123456789"))
    struct.pack_into(layout, content, central(content) + field, *value)
    with pytest.raises(WeightsError, match=message):
        entries(content)


def test_entries_that_share_their_bytes_are_refused():
    """The modern bomb: thousands of entries in one place."""
    content = made(("archive/data/0", b"0" * 100), ("archive/data/1", b"1" * 100))
    first = struct.unpack_from("<I", content, central(content) + 42)[0]
    struct.pack_into("<I", content, central(content, 1) + 42, first)
    with pytest.raises(WeightsError, match="overlap"):
        entries(content)


def test_two_entries_of_one_name_are_refused():
    content = made(("archive/data/0", b"good"), ("archive/data/1", b"evil"))
    content = content.replace(b"archive/data/1", b"archive/data/0")
    with pytest.raises(WeightsError, match="two entries named 'archive/data/0'"):
        entries(content)


def test_a_number_of_entries_without_end_is_refused():
    content = made(*((str(i), b"") for i in range(70_000)))
    where = content.rindex(archives.END64)
    struct.pack_into("<QQ", content, where + 24, 2**40, 2**40)
    with pytest.raises(WeightsError, match="an archive of 1,099,511,627,776 entries"):
        entries(content)


def test_every_cut_and_every_changed_byte_is_an_error_of_ours_or_no_matter():
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(5)}, buffer)
    whole = buffer.getvalue()
    for end in range(4, len(whole), 41):
        with pytest.raises(WeightsError):
            entries(whole[:end])
    index = whole.index(archives.CENTRAL)
    survived = 0
    for at in range(index, len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 0xFF
        try:
            survived += bool(entries(changed))
        except WeightsError:
            continue
    assert survived < len(whole) - index  # dates, checksums and names may change


@pytest.mark.parametrize(("files", "message"), [
    ([("x/data.pkl", b"N."), ("y/data.pkl", b"N.")], "but no checkpoint: it holds x/data.pkl, y/data.pkl"),
    ([("deep/er/data.pkl", b"N.")], "but no checkpoint"),
    ([], "but no checkpoint: it holds nothing"),
    ([("x/data.pkl", b"N."), ("x/byteorder", b"big")], "big-endian"),
    ([("x/data.pkl", storage_of("0"))], "lacks the numbers of entry 'x/data/0'"),
    ([("x/data.pkl", storage_of("0")), ("x/data/0", b"1234")], "a storage of 10 torch.float32 and 4 bytes"),
    ([("x/data.pkl", storage_of("../../etc")), ("x/data/0", b"1234")], "lacks the numbers of entry 'x/data/../../etc'"),
])
def test_archives_that_are_no_whole_checkpoint(tmp_path, files, message):
    path = tmp_path / "w.pt"
    path.write_bytes(made(*files))
    with pytest.raises(WeightsError) as caught:
        checkpoints.read(path)
    assert message in caught.value.message
