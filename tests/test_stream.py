"""The loop on temporary folders: what is done, in which order, what is skipped, and what a failure costs."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from sigan import images, locks, stream
from sigan.errors import ConfigError, NoFaceError, OutputError
from sigan.stream import Item, Ledger, Prepared


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


# ---- the loop

class Work:
    """An item gives as many parts as its name says; the computation doubles them and remembers its batches."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        touch(folder, *names)
        self.folder, self.batches, self.threads = folder, [], set()
        self.items = [Item(folder / name, Path(name)) for name in names]

    def prepare(self, item: Item) -> Prepared:
        self.threads.add(threading.current_thread())
        if item.path.name.startswith("bad"):
            raise NoFaceError(f"{item.path}: no face", "another picture")
        if item.path.name.startswith("odd"):
            raise ZeroDivisionError("odd")
        return Prepared([int(item.path.stem[-1])] * int(item.path.stem[-1]))

    def compute(self, parts: list[int]) -> list[int]:
        self.batches.append(len(parts))
        return [2 * part for part in parts]

    def save(self, item: Item, results: list[int]) -> list[Path]:
        path = stream.output_path(item, self.folder / "out", ".json")
        images.atomic_write(path, json.dumps(results).encode())
        return [path]

    def run(self, **options) -> list:
        return list(stream.process(self.items, self.prepare, self.compute, self.save, **options))


def test_each_input_gets_its_own_results_whatever_the_batch(tmp_path):
    names = ["a3", "b1", "c2", "d1", "e2", "f3", "g1", "h1", "i2", "j1"]
    for size in (1, 2, 4, 100):
        work = Work(tmp_path / str(size), names)
        records = work.run(batch_size=size)
        assert [record.source for record in records] == [str(item.path) for item in work.items]
        for record, name in zip(records, names):
            count = int(name[-1])
            assert record.status == "ok" and record.faces == count
            assert json.loads(Path(record.outputs[0]).read_text()) == [2 * count] * count
        assert max(work.batches) <= size and sum(work.batches) == 17
        assert threading.current_thread() not in work.threads


def test_a_failure_is_a_record_and_the_others_go_on(tmp_path):
    work = Work(tmp_path, ["a1", "bad1", "odd1", "b1"])
    records = work.run()
    assert [record.status for record in records] == ["ok", "failed", "failed", "ok"]
    assert records[1].error.type == "NoFaceError" and records[1].error.hint == "another picture"
    assert records[2].error.type == "ZeroDivisionError" and "odd1" in records[2].error.message
    assert records[1].as_json()["output"] is None


def test_an_output_that_cannot_be_written_is_a_failure_of_that_input(tmp_path):
    work = Work(tmp_path, ["a1", "b1"])
    (tmp_path / "out/a1.json").mkdir(parents=True)
    assert [record.status for record in work.run()] == ["failed", "ok"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a1.json", "b1.json"]


def test_fail_fast_stops_after_the_first_failure_and_keeps_what_was_done(tmp_path):
    work = Work(tmp_path, ["a1", "bad1", "b1"])
    assert [record.status for record in work.run(fail_fast=True)] == ["ok", "failed"]
    assert (tmp_path / "out/a1.json").exists() and not (tmp_path / "out/b1.json").exists()
    with pytest.raises(ZeroDivisionError):
        Work(tmp_path, ["odd1"]).run(fail_fast=True)


def test_a_second_run_does_what_is_new_or_changed(tmp_path):
    work = Work(tmp_path, ["a1", "b1", "bad1"])

    def statuses(identity: str = "x", **options) -> list[str]:
        return [r.status for r in work.run(ledger=Ledger(tmp_path / "out"), identity=identity, **options)]

    assert statuses() == ["ok", "ok", "failed"]
    assert statuses() == ["skipped", "skipped", "failed"]
    (tmp_path / "b1").write_bytes(b"changed")
    assert statuses() == ["skipped", "ok", "failed"]
    assert statuses("other options") == ["ok", "ok", "failed"]
    assert statuses("other options", overwrite=True) == ["ok", "ok", "failed"]
    (tmp_path / "out/a1.json").unlink()
    assert statuses("other options") == ["ok", "skipped", "failed"]


def test_a_run_that_is_left_early_resumes(tmp_path):
    work = Work(tmp_path, [f"{letter}1" for letter in "abcdefghijklmnop"])
    run = stream.process(work.items, work.prepare, work.compute, work.save, ledger=Ledger(tmp_path / "out"))
    assert [next(run).status for _ in range(3)] == ["ok"] * 3
    run.close()
    statuses = [record.status for record in work.run(ledger=Ledger(tmp_path / "out"))]
    assert statuses.count("skipped") >= 3 and statuses.count("ok") == 16 - statuses.count("skipped")


def test_a_wrong_option_stops_the_run(tmp_path):
    work = Work(tmp_path, ["a1", "b1"])

    def prepare(item: Item) -> Prepared:
        raise ConfigError("faces is 'some'")

    with pytest.raises(ConfigError, match="some"):
        list(stream.process(work.items, prepare, work.compute, work.save))


def test_a_batch_has_a_size(tmp_path):
    with pytest.raises(ConfigError, match="batch_size is 0"):
        Work(tmp_path, ["a1"]).run(batch_size=0)


# ---- kept busy, and bounded

@dataclass(frozen=True)
class Counted:
    """A `prepare` that another process can have: a part for each byte of the file, with that process's number."""

    def __call__(self, item: Item) -> Prepared:
        data = item.path.read_bytes()
        if data == b"die":
            os.kill(os.getpid(), 9)
        return Prepared([(len(data), os.getpid())] * len(data))


def test_processes_do_it_as_well_and_one_that_dies_costs_its_input(tmp_path):
    for k in range(30):
        (tmp_path / f"{k:02}.jpg").write_bytes(b"die" if k == 13 else b"x" * (k % 3 + 1))
    items = stream.find_inputs(tmp_path)
    seen: set[int] = set()

    def compute(parts: list) -> list:
        seen.update(process for _, process in parts)
        return [size for size, _ in parts]

    def save(item: Item, sizes: list) -> list[Path]:
        path = stream.output_path(item, tmp_path / "out", ".json")
        images.atomic_write(path, json.dumps(sizes).encode())
        return [path]

    records = list(stream.process(items, Counted(), compute, save, ledger=Ledger(tmp_path / "out"), workers=2))
    assert [record.source for record in records] == [str(item.path) for item in items]
    assert [k for k, record in enumerate(records) if record.status == "failed"] == [13]
    assert "13.jpg" in records[13].error.message and "signal 9" in records[13].error.message
    for k, record in enumerate(records):
        if k != 13:
            assert json.loads(Path(record.outputs[0]).read_text()) == [k % 3 + 1] * (k % 3 + 1)
    assert os.getpid() not in seen and len(seen) >= 2


def test_no_more_is_read_than_keeps_the_device_busy(tmp_path):
    """However slow the device or the caller is: what is read and not yet written stays below a few batches."""
    names = [f"{k:03}-1" for k in range(120)]
    work = Work(tmp_path, names)
    read: list[int] = []
    prepare, most = work.prepare, 0
    work.prepare = lambda item: read.append(1) or prepare(item)
    for k, _ in enumerate(stream.process(work.items, work.prepare, work.compute, work.save, batch_size=4)):
        time.sleep(0.002)
        most = max(most, len(read) - k)
    assert len(read) == 120 and most <= 4 * 4


def test_one_input_that_breaks_a_batch_fails_alone(tmp_path):
    work = Work(tmp_path, [f"{letter}1" for letter in "abc"] + ["d3", "e1"])

    def compute(parts: list[int]) -> list[int]:
        if 3 in parts:
            raise RuntimeError("not this one")
        return parts

    work.compute = compute
    records = work.run(batch_size=4)
    assert [record.status for record in records] == ["ok", "ok", "ok", "failed", "ok"]
    assert "not this one" in records[3].error.message


def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(tmp_path, monkeypatch):
    work = Work(tmp_path, [f"{letter}1" for letter in "abcdef"])
    replace, written = os.replace, []

    def full(source, target):
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(target)
        replace(source, target)

    with monkeypatch.context() as small:
        small.setattr(images.os, "replace", full)
        with pytest.raises(OutputError, match="No space left") as caught:
            work.run(ledger=Ledger(tmp_path / "out"), batch_size=1)
    assert "goes on from here" in caught.value.hint
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == ["a1.json", "b1.json", "c1.json"]
    assert not list((tmp_path / "out").glob(".*.part"))
    statuses = [record.status for record in work.run(ledger=Ledger(tmp_path / "out"))]
    assert statuses == ["skipped"] * 3 + ["ok"] * 3


def test_files_that_vanish_or_are_no_files_fail_alone(tmp_path):
    work = Work(tmp_path, ["a1", "b1", "c1"])
    (tmp_path / "b1").unlink()
    (tmp_path / "c1").unlink()
    (tmp_path / "c1").symlink_to(tmp_path / "c1")
    records = work.run(ledger=Ledger(tmp_path / "out"))
    assert [record.status for record in records] == ["ok", "failed", "failed"]
    assert "b1: cannot be read" in records[1].error.message and "c1: cannot be read" in records[2].error.message


# ---- a second look

def test_that_no_face_was_found_is_remembered_and_other_failures_are_not(tmp_path, monkeypatch):
    work = Work(tmp_path, ["a1", "bad1", "odd1"])
    looked: list[str] = []
    prepare = work.prepare
    work.prepare = lambda item: looked.append(item.path.name) or prepare(item)

    def run(**options) -> list:
        looked.clear()
        return work.run(ledger=Ledger(tmp_path / "out"), **options)

    first, second = run(), run()
    assert [record.status for record in second] == ["skipped", "failed", "failed"] and looked == ["odd1"]
    assert second[1].error == first[1].error and "--retry-failed" in second[1].notes[0]
    monkeypatch.setattr("sigan.ledger.SETTLED", 0.0)  # the files have settled meanwhile, so their lines get stamps
    assert [record.status for record in run(retry_failed=True)] == ["skipped", "failed", "failed"]
    assert looked == ["bad1", "odd1"]
    (tmp_path / "bad1").rename(tmp_path / "bad1.old")
    (tmp_path / "bad1").write_bytes(b"another picture")
    assert [record.status for record in run()] == ["skipped", "failed", "failed"] and looked == ["bad1", "odd1"]


def test_a_plan_says_what_a_run_would_do_and_makes_nothing(tmp_path):
    work = Work(tmp_path, ["a1", "bad1", "b1"])
    assert [record for _, record in stream.plan(work.items, Ledger(tmp_path / "out"), "x")] == [None] * 3
    assert not (tmp_path / "out").exists()
    work.run(ledger=Ledger(tmp_path / "out"), identity="x")
    (tmp_path / "b1").write_bytes(b"changed")
    kept = (tmp_path / "out" / stream.LEDGER).read_bytes()

    def planned(**options) -> list:
        plan = stream.plan(work.items, Ledger(tmp_path / "out"), "x", **options)
        return [record and record.status for _, record in plan]

    assert planned() == ["skipped", "failed", None]
    assert planned(retry_failed=True) == ["skipped", None, None] and planned(overwrite=True) == [None] * 3
    assert (tmp_path / "out" / stream.LEDGER).read_bytes() == kept


# ---- several at once

@pytest.mark.skipif(not locks.OWNED_BY_FILE, reason="locks of two open files in one process: Linux only")
@pytest.mark.parametrize("options", [{}, {"overwrite": True}])
def test_two_runs_on_one_folder_do_everything_once(tmp_path, monkeypatch, options):
    monkeypatch.setattr(stream, "AGAIN", 0.01)
    names = [f"{k:02}-1" for k in range(40)]
    work, saved = Work(tmp_path, names), []
    save = work.save
    work.save = lambda item, results: time.sleep(0.002) or saved.append(item.path.name) or save(item, results)
    ledgers = [Ledger(tmp_path / "out") for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(work.run, ledger=ledger, batch_size=2, **options) for ledger in ledgers]
        first, second = (run.result() for run in runs)
    assert sorted(saved) == names
    for records in (first, second):
        assert sorted(record.source for record in records) == [str(item.path) for item in work.items]
    statuses = [record.status for record in first + second]
    assert statuses.count("ok") == 40 and statuses.count("skipped") == 40


def test_what_another_has_in_hand_comes_last_and_is_done_when_that_one_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "AGAIN", 0.01)
    work, other = Work(tmp_path, ["a1", "b1", "c1"]), Ledger(tmp_path / "out")
    if not locks.OWNED_BY_FILE:
        pytest.skip("locks of two open files in one process: Linux only")
    assert other.claim(work.items[0])
    timer = threading.Timer(0.2, other.close)
    timer.start()
    records = work.run(ledger=Ledger(tmp_path / "out"))
    assert [Path(record.source).name for record in records] == ["b1", "c1", "a1"]
    assert {record.status for record in records} == {"ok"}
