"""Batches are halved where memory does not suffice, and devices share them; results stay the same, in order."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from sigan import devices, images, stream
from sigan.errors import ConfigError
from sigan.stylization import StylizeConfig, Stylizer, stylize_folder

CPU = {"device": "cpu"}
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has ..."), MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


class Narrow:
    """Squares numbers, no more than `most` at once: more raise `error`. Remembers how many it was given."""

    def __init__(self, most: int, error: Exception = ERRORS[0]) -> None:
        self.most, self.error, self.calls = most, error, []

    def __call__(self, parts: list[int]) -> list[int]:
        self.calls.append(len(parts))
        if len(parts) > self.most:
            raise self.error
        return [part * part for part in parts]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_batch_that_does_not_fit_is_halved_and_that_is_remembered(error):
    room, narrow = devices.Room(), Narrow(3, error)
    assert room.apply(narrow, list(range(11))) == [k * k for k in range(11)]
    assert narrow.calls == [11, 5, 2, 2, 2, 2, 2, 1] and room.most == 2
    assert room.apply(narrow, [7, 8, 9]) == [49, 64, 81] and narrow.calls[8:] == [2, 1]
    assert room.notes() == ["memory did not suffice for 5 faces at once: 2 from here on"] and room.notes() == []


def test_nothing_is_halved_without_need():
    room, wide = devices.Room(), Narrow(99)
    assert room.apply(wide, list(range(20)))[-1] == 361 and wide.calls == [20]
    assert room.apply(wide, []) == [] and room.notes() == [] and room.most is None


def test_when_one_does_not_fit_it_says_so():
    with pytest.raises(ConfigError, match="one face at a time .CUDA out of memory. Tried to allocate 20.00 MiB.") as e:
        devices.Room().apply(Narrow(0), [1, 2, 3])
    assert "--device" in e.value.hint and isinstance(e.value.__cause__, torch.OutOfMemoryError)


def test_other_errors_are_not_mistaken_for_it():
    narrow = Narrow(1, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        devices.Room().apply(narrow, [1, 2])
    assert narrow.calls == [2] and not devices.out_of_memory(ValueError("out of memory"))


def test_the_failed_batch_is_let_go_before_the_next():
    """What the failed call held is collected by then, or it could not fit either."""
    held = []

    class Big:
        def __del__(self) -> None:
            held.remove(self.name)

        def __init__(self, name: int) -> None:
            self.name = name
            held.append(name)

    def function(parts: list[int]) -> list[int]:
        big = Big(len(parts))
        assert held == [big.name]
        if len(parts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return parts

    assert devices.Room().apply(function, [1, 2, 3, 4, 5]) == [1, 2, 3, 4, 5]


# ---- several

@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8])
def test_a_round_robin_gives_what_one_gives(count):
    workers = [Narrow(99) for _ in range(3)]
    assert devices.RoundRobin(workers)(list(range(count))) == [k * k for k in range(count)]
    shares = [sum(worker.calls) for worker in workers]
    assert sum(shares) == count and max(shares) - min(shares) <= 1


def test_they_work_at_the_same_time():
    meet = threading.Barrier(3, timeout=20)

    def function(parts: list[int]) -> list[int]:
        meet.wait()  # breaks unless all three are here
        return parts

    assert devices.RoundRobin([function] * 3)([1, 2, 3, 4]) == [1, 2, 3, 4]


def test_an_error_of_one_is_the_errors_of_all():
    with pytest.raises(ConfigError, match="one face"):
        devices.RoundRobin([Narrow(9), lambda parts: devices.Room().apply(Narrow(0), parts)])([1, 2, 3])


def test_which_devices_a_name_means(monkeypatch):
    assert devices.every("cpu") == [torch.device("cpu")]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert devices.every("auto") == devices.every("cuda") == [torch.device("cuda", k) for k in range(3)]
    assert devices.every("cuda:1") == [torch.device("cuda:1")] and devices.every("cpu") == [torch.device("cpu")]


# ---- in a Stylizer

@pytest.fixture
def folder(tiny_base, tmp_path):
    r = tiny_base.resolution
    for k in range(7):
        images.write(tmp_path / f"in/{k}.png", np.random.default_rng(k).integers(0, 255, (r, r, 3), np.uint8))
    return tmp_path / "in"


def records(stylizer: Stylizer, folder, out, **how):
    return list(stylize_folder(stylizer, stream.find_inputs(folder), out, **how))


def pictures(out) -> list[np.ndarray]:
    return [images.read(path).astype(int) for path in sorted(out.glob("*.png"))]


def test_a_folder_on_too_little_memory(tiny_pack, folder, tmp_path, monkeypatch):
    """Portraits are those of enough memory; one note, with the first record."""
    config = StylizeConfig(aligned=True, batch_size=4, **CPU)
    plain = records(Stylizer(tiny_pack, config), folder, tmp_path / "plain")
    draw = Stylizer._draw

    def little(self, pixels):
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return draw(self, pixels)

    monkeypatch.setattr(Stylizer, "_draw", little)
    tight = records(Stylizer(tiny_pack, config), folder, tmp_path / "tight")
    assert [record.status for record in plain + tight] == ["ok"] * 14
    notes = [note for record in tight for note in record.notes]
    assert notes == ["memory did not suffice for 2 faces at once: 1 from here on"]
    for a, b in zip(pictures(tmp_path / "plain"), pictures(tmp_path / "tight")):
        assert np.array_equal(a, b)


def test_several_devices_share_a_folder(tiny_pack, folder, tmp_path, monkeypatch):
    """Three processors that pretend to be one device each; after `use`, all draw what the first does."""
    config = StylizeConfig(aligned=True, batch_size=2, **CPU)
    drawn: dict[int, int] = {}
    arrays = Stylizer.arrays

    def counted(self, faces):
        drawn[id(self)] = drawn.get(id(self), 0) + len(faces)
        return arrays(self, faces)

    one = Stylizer(tiny_pack, config)
    one.use(strength=0.5)
    records(one, folder, tmp_path / "one")
    monkeypatch.setattr(Stylizer, "arrays", counted)
    monkeypatch.setattr(devices, "every", lambda name: [torch.device("cpu")] * 3)
    done = records(one, folder, tmp_path / "three")
    assert [record.source[-5:] for record in done] == [f"{k}.png" for k in range(7)]
    assert len(drawn) == 3 and sum(drawn.values()) == 7
    for a, b in zip(pictures(tmp_path / "one"), pictures(tmp_path / "three")):
        assert np.array_equal(a, b)


# ---- on a GPU

gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=gpu), pytest.param("bfloat16", marks=gpu)])
def test_a_gpu_draws_what_the_processor_draws(tiny_pack, folder, tmp_path, dtype, monkeypatch):
    """Every GPU of the machine; `tiny_base` ignores the device that it is loaded for, so its nets are moved here."""
    from sigan import bases

    load = bases.load
    monkeypatch.setattr(bases, "load", lambda name, device="cpu": moved(load(name), device))
    config = StylizeConfig(aligned=True, batch_size=2, **CPU)
    records(Stylizer(tiny_pack, config), folder, tmp_path / "cpu")
    done = records(Stylizer(tiny_pack, replace(config, device="cuda", dtype=dtype)), folder, tmp_path / "gpu")
    assert [record.status for record in done] == ["ok"] * 7
    for a, b in zip(pictures(tmp_path / "cpu"), pictures(tmp_path / "gpu")):
        assert np.abs(a - b).mean() < (1 if dtype == "float32" else 3)


def moved(base, device):
    import copy

    nets = {part: copy.deepcopy(getattr(base, part)).to(device) for part in ("generator", "discriminator", "encoder")}
    return replace(base, device=device, **nets)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_full_gpu_is_noticed_and_left_usable():
    free = torch.cuda.mem_get_info()[0]

    def function(parts: list[int]) -> list[int]:
        torch.empty(len(parts) * (free // 3), dtype=torch.uint8, device="cuda")
        return parts

    room = devices.Room()
    assert room.apply(function, list(range(8))) == list(range(8)) and room.most == 2
