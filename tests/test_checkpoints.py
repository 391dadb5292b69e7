"""Checkpoint files: every form PyTorch writes is read alike; what is cut short, packed or no checkpoint is named."""

from __future__ import annotations

import collections
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sigan import checkpoints, tensors
from sigan.errors import WeightsError
from sigan.tensors import Storage, StoredTensor


def tree() -> dict:
    draw = torch.Generator().manual_seed(0)
    big = torch.randn(40, 50, generator=draw)
    net = torch.nn.Linear(3, 4)
    steps = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    steps.step()
    return {
        "g_ema": collections.OrderedDict(
            whole=big, turned=big.t(), part=big[1:, 2:], last=big[-1, -1], none=torch.empty(0, 3),
            parameter=torch.nn.Parameter(torch.arange(3.0)), repeated=torch.arange(512.0).expand(18, 512)),
        "types": [torch.arange(5).to(dtype) for dtype in tensors.STORAGES.values()],
        "net": net.state_dict(), "steps": steps.state_dict(), "device": str(torch.device("cpu")), "n": 3, "lr": [0.002],
    }


def assert_same(read, expected) -> None:
    if isinstance(expected, torch.Tensor):
        assert isinstance(read, StoredTensor) and tuple(read.shape) == tuple(expected.shape)
        value = read.read()
        assert value.dtype == expected.dtype and torch.equal(value, expected)
    elif isinstance(expected, dict):
        assert list(read) == list(expected)
        for key in expected:
            assert_same(read[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert type(read) is type(expected) and len(read) == len(expected)
        for one, other in zip(read, expected):
            assert_same(one, other)
    else:
        assert read == expected


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "stream"])
@pytest.mark.parametrize("protocol", range(1, 6))
def test_what_torch_saved_is_read(tmp_path, zipped, protocol):
    expected = tree()
    torch.save(expected, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    assert_same(checkpoints.read(tmp_path / "w.pt"), expected)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_tensors_and_arrays_are_read(tmp_path, protocol):
    """As NVIDIA saved its networks: with torch's tensors or NumPy's arrays inside a common pickle."""
    arrays = [np.arange(6).astype(kind).reshape(2, 3) for kind in ("f4", "f8", "f2", "i8", "i4", "u1", "?")]
    arrays += [np.asfortranarray(arrays[0]), np.array(2.5), np.zeros((0, 3))]
    expected = tree()
    with open(tmp_path / "w.pkl", "wb") as file:
        pickle.dump({"torch": expected, "numpy": arrays, "number": np.float64(2.5)}, file, protocol=protocol)
    read = checkpoints.read(tmp_path / "w.pkl")
    assert_same(read["torch"], expected)
    for one, other in zip(read["numpy"], arrays):
        assert np.array_equal(one.read().numpy(), other) and one.read().numpy().dtype == other.dtype
    assert read["number"] == 2.5


def test_safetensors_are_read_with_their_metadata(tmp_path):
    save_file({"a": torch.arange(3)}, tmp_path / "w", {"licence": "CC0"})
    read = checkpoints.read(tmp_path / "w")
    assert read.args == ({"licence": "CC0"},) and read.state["a"].tolist() == [0, 1, 2]


def test_a_state_dict_is_read_alone_and_nothing_else_as_one(tmp_path):
    state = torch.nn.Linear(3, 4).state_dict()
    torch.save(state, tmp_path / "w.pth")
    save_file(state, tmp_path / "w.safetensors", {"a": "b"})
    for name in ("w.pth", "w.safetensors"):
        read = checkpoints.read_state(tmp_path / name)
        assert set(read) == set(state) and all(torch.equal(read[key], state[key]) for key in state)
    for other in ({"a": 1}, {1: torch.zeros(1)}, [torch.zeros(1)], {"state_dict": state}):
        torch.save(other, tmp_path / "other")
        with pytest.raises(WeightsError, match="is no state dict"):
            checkpoints.read_state(tmp_path / "other")


def test_reading_changes_nothing_in_the_file(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"a": torch.zeros(1000)}, path)
    before = path.read_bytes()
    value = checkpoints.read(path)["a"].read()
    value.fill_(1.0)
    assert path.read_bytes() == before and float(value.sum()) == 1000


def test_numbers_are_read_when_asked_for(tmp_path):
    """Two hundred megabytes of holes: an index, and no copy of what is in between."""
    import tracemalloc

    path = tmp_path / "w.pt"
    with torch.serialization.skip_data():
        torch.save({"a": torch.empty(50_000_000)}, path)
    tracemalloc.start()
    stored = checkpoints.read(path)["a"]
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    assert stored.shape == (50_000_000,)


# ---- cut short

@pytest.fixture
def saved(tmp_path):
    """saved(zipped) -> a whole checkpoint."""
    def save(zipped: bool = True):
        torch.save({"a": torch.arange(3000.0), "b": torch.ones(7)}, tmp_path / "w.pt",
                   _use_new_zipfile_serialization=zipped)
        return tmp_path / "w.pt"

    return save


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "stream"])
@pytest.mark.parametrize("kept", [0.01, 0.3, 0.7, 0.97, 0.9999])
def test_a_truncated_checkpoint_says_that_it_ends_early(saved, zipped, kept):
    path = saved(zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(WeightsError, match="ends early|it ends at byte|it ends in the middle") as caught:
        checkpoints.read(path)
    assert "download it again" in caught.value.hint and str(path) in caught.value.message


def test_every_cut_is_noticed(saved):
    path = saved(False)
    content = path.read_bytes()
    for end in [*range(1, 700, 13), *range(700, len(content), 997), len(content) - 1]:
        path.write_bytes(content[:end])
        with pytest.raises(WeightsError):
            checkpoints.read(path)


def test_what_follows_a_pickle_is_told(tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"a": 1}) + b"<html>")
    with pytest.raises(WeightsError, match="6 bytes follow the pickle"):
        checkpoints.read(tmp_path / "w.pkl")


# ---- no checkpoint

@pytest.mark.parametrize(("content", "message"), [
    (b"", "is empty"),
    (b"<!DOCTYPE html><title>Quota exceeded</title>", "is a web page, not weights"),
    (b"\xef\xbb\xbf\n  <html lang=en>", "is a web page"),
    (b"<?xml version='1.0'?><Error>", "is a web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "is a Git LFS pointer"),
    (b"\x1f\x8b\x08\x00rest", "is packed with gzip"),
    (b"7z\xbc\xaf\x27\x1c", "is packed with 7-Zip"),
    (b"\x89PNG\r\n\x1a\n", "is a PNG picture"),
    (b"\x89HDF\r\n", "is an HDF5 file"),
    (b"name\0".ljust(257, b"\0") + b"ustar\x0000", "is a tar archive"),
    (b"hello, world, this is text", "is no checkpoint of a known kind: it begins with b'hello, world, th'"),
    (struct.pack("<Q", 10**6) + b'{"a":', "is broken or no safetensors file"),
    (b"\x00" * 4096, "is no checkpoint of a known kind"),
    (b"PK\x03\x04" + b"\0" * 100, "ends early"),
])
def test_another_file_is_named(tmp_path, content, message):
    path = tmp_path / "ffhq.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        checkpoints.read(path)
    assert message in caught.value.message and caught.value.hint


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(WeightsError, match=f"cannot read {path}"):
            checkpoints.read(path)


def test_a_torchscript_program_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive:  # only code is compressed
        archive.writestr("w/data.pkl", b"N.", zipfile.ZIP_STORED)
        archive.writestr("w/code/__torch__/net.py", "def forward(self, x): return x\n" * 9)
    with pytest.raises(WeightsError, match="is a TorchScript program: it holds code"):
        checkpoints.read(tmp_path / "w.pt")


def test_a_checkpoint_inside_an_archive_is_not_unpacked(saved, tmp_path):
    with zipfile.ZipFile(tmp_path / "download.zip", "w") as archive:
        archive.write(saved(), "e4e_ffhq_encode.pt")
    with pytest.raises(WeightsError, match="no checkpoint: it holds e4e_ffhq_encode.pt") as caught:
        checkpoints.read(tmp_path / "download.zip")
    assert "unpack it" in caught.value.hint


def test_a_whole_network_is_refused_by_its_class(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="torch.nn.modules.linear.Linear"):
        checkpoints.read(tmp_path / "w.pt")


# ---- storages that lie

FLOATS = memoryview(bytearray(40))


@pytest.mark.parametrize(("offset", "shape", "stride", "message"), [
    (0, (11,), (1,), "reaches to 10 of 10"),
    (8, (3,), (1,), "reaches to 10 of 10"),
    (0, (3, 4), (4, 1), "reaches to 11 of 10"),
    (-1, (3,), (1,), "are no sizes"),
    (0, (3,), (-1,), "are no sizes"),
    (0, (2.0,), (1,), "are no sizes"),
    (0, (2**50,), (0,), "are no sizes"),
    (0, (2**24,), (0,), "16,777,216 numbers in a storage of 10"),
    (0, (2**20, 2**20), (0, 0), "numbers in a storage of 10"),
    (0, (3,), (1, 1), "without storage or shape"),
])
def test_a_tensor_beyond_its_storage_is_refused(offset, shape, stride, message):
    with pytest.raises(ValueError, match=message):
        StoredTensor(Storage(torch.float32, 10, FLOATS), offset, shape, stride)


def test_a_storage_has_as_many_bytes_as_it_says():
    with pytest.raises(ValueError, match="11 torch.float32 and 40 bytes"):
        Storage(torch.float32, 11, FLOATS)
    with pytest.raises(ValueError, match="no type or size"):
        Storage(torch.float32, -1)


def test_numbers_that_are_not_aligned_are_read():
    data = memoryview(bytearray(b"\x00" + np.arange(5, dtype="<f4").tobytes()))[1:]
    assert Storage(torch.float32, 5, data).read().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("array", [np.array([object()]), np.array(["a"]), np.arange(3, dtype=">f4"),
                                   np.zeros(2, dtype=[("a", "f4")]), np.zeros(2, "complex64")],
                         ids=["objects", "text", "big-endian", "fields", "complex"])
def test_arrays_of_other_things_are_refused(tmp_path, array):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(array))
    with pytest.raises(WeightsError, match="an array of no type|an array of big-endian"):
        checkpoints.read(tmp_path / "w.pkl")
