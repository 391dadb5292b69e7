"""Streams on temporary folders: what is found, what it is called, what is skipped, and what a failure costs."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from sigan import images, stream
from sigan.errors import ConfigError, InputError, NoFaceError, OutputError
from sigan.stream import Item, Ledger, Prepared


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def found(*args, **kwargs) -> list[str]:
    return [item.relative.as_posix() for item in stream.find_inputs(*args, **kwargs)]


# ---- sources

def test_a_folder_is_searched_in_order_without_what_is_hidden_or_no_picture(tmp_path):
    touch(tmp_path, "b/z.PNG", "b/a.jpg", "a.webp", ".hidden.png", ".cache/x.png", "notes.txt", stream.LEDGER)
    assert found(tmp_path) == ["a.webp", "b/a.jpg", "b/z.PNG"]


def test_the_output_folder_inside_the_input_is_not_read_again(tmp_path):
    touch(tmp_path, "a.jpg", "out/a.png", "out/deep/b.png", "outer/c.png")
    assert found(tmp_path, out=tmp_path / "out") == ["a.jpg", "outer/c.png"]


def test_the_output_folder_is_not_the_input_folder(tmp_path):
    touch(tmp_path, "a.jpg")
    with pytest.raises(OutputError, match="is the input folder"):
        stream.find_inputs(tmp_path, out=tmp_path / "x" / "..")


def test_a_single_file_is_taken_whatever_its_name(tmp_path):
    touch(tmp_path, "scan")
    assert found(tmp_path / "scan") == ["scan"]


def test_a_list_keeps_folders_as_written_and_drops_doubles(tmp_path):
    listing = io.StringIO(f"a/x.jpg\n\na/x.jpg\nb/x.jpg\n{tmp_path}/p/1.jpg\n{tmp_path}/q/1.jpg\n")
    assert found("-", listing=listing) == ["a/x.jpg", "b/x.jpg", "p/1.jpg", "q/1.jpg"]


@pytest.mark.parametrize(("make", "said"), [
    (lambda folder: folder, "the folder holds no picture"),
    (lambda folder: folder / "nowhere", "no such file or folder"),
    (lambda folder: "-", "the list on stdin names no picture"),
])
def test_no_input_is_an_error_that_names_the_place(tmp_path, make, said):
    source = make(tmp_path)
    with pytest.raises(InputError, match=said) as caught:
        stream.find_inputs(source, listing=io.StringIO(""))
    assert str(source) in caught.value.message or source == "-"
    assert caught.value.hint


# ---- destinations

def test_outputs_keep_folder_and_stem_and_faces_are_numbered(tmp_path):
    item = Item(tmp_path / "a/b.c.jpg", Path("a/b.c.jpg"))
    assert stream.output_path(item, "out", ".png") == Path("out/a/b.c.png")
    assert stream.output_path(item, "out", ".png", 0, 1) == Path("out/a/b.c.png")
    assert [stream.output_path(item, "out", ".png", k, 2).name for k in (0, 1)] == ["b.c-1.png", "b.c-2.png"]


@pytest.mark.parametrize("several", [False, True])
def test_no_two_inputs_write_the_same_file(tmp_path, several):
    touch(tmp_path, "b.jpg", "b.png", "B2.jpg", "b2.jpeg", "d/b.jpg", "e.jpg", "e-1.jpg", "f-2.png")
    items = stream.find_inputs(tmp_path, several=several)
    counts = (1, 3) if several else (1,)
    written = [str(stream.output_path(item, "out", ".png", k, count)).lower()
               for item in items for count in counts for k in range(count)]
    assert len(set(written)) == len(written)
    names = {item.relative.as_posix(): stream.output_path(item, "", ".png").as_posix() for item in items}
    assert names["b.jpg"] == "b.jpg.png" and names["d/b.jpg"] == "d/b.png" and names["f-2.png"] == "f-2.png"
    assert (names["e-1.jpg"] == "e-1.jpg.png") is several


def test_an_output_below_a_file_is_refused_and_nothing_is_made(tmp_path):
    touch(tmp_path, "file")
    with pytest.raises(OutputError, match="file is a file"):
        stream.check_output(tmp_path / "file" / "out")
    with pytest.raises(OutputError, match="looks like a picture"):
        stream.check_output(tmp_path / "new.png")
    stream.check_output(tmp_path / "new" / "deep")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_faces_are_written_all_or_none(tmp_path):
    (tmp_path / "a-2.png").mkdir()
    picture = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(OutputError, match="a-2.png"):
        stream.write_faces(Item(Path("a.jpg"), Path("a.jpg")), [picture] * 3, tmp_path, "png")
    assert [path.name for path in tmp_path.iterdir()] == ["a-2.png"]


def test_an_input_is_never_replaced_by_its_own_output(tmp_path):
    picture = np.zeros((4, 4, 3), np.uint8)
    touch(tmp_path, "a.png")
    with pytest.raises(OutputError, match="would replace the input"):
        stream.write_faces(Item(tmp_path / "a.png", Path("a.png")), [picture], tmp_path, "png")
    assert (tmp_path / "a.png").read_bytes() == b"a.png"
    assert stream.write_faces(Item(tmp_path / "a.png", Path("a.png")), [picture], tmp_path, "webp")


# ---- the ledger

def finished(folder: Path, name: str, key: str) -> Item:
    item = Item(folder / f"{name}.jpg", Path(f"{name}.jpg"))
    touch(folder, f"{name}.png")
    Ledger(folder).record(item, key, [folder / f"{name}.png"])
    return item


def test_the_ledger_knows_what_is_done_and_current(tmp_path):
    item = finished(tmp_path, "a", "k1")
    assert Ledger(tmp_path).done(item, "k1")
    assert not Ledger(tmp_path).done(item, "k2")
    finished(tmp_path, "a", "k2")
    assert Ledger(tmp_path).done(item, "k2") and not Ledger(tmp_path).done(item, "k1")
    (tmp_path / "a.png").unlink()
    assert not Ledger(tmp_path).done(item, "k2")


@pytest.mark.parametrize("cut", [1, 2, 20])
def test_a_kill_in_the_middle_of_a_line_costs_that_line_only(tmp_path, cut):
    first, second = finished(tmp_path, "a", "k"), finished(tmp_path, "b", "k")
    path = tmp_path / stream.LEDGER
    path.write_bytes(path.read_bytes()[:-cut])
    ledger = Ledger(tmp_path)
    assert ledger.done(first, "k") and ledger.done(second, "k") is (cut == 1)
    third = finished(tmp_path, "c", "k")
    assert Ledger(tmp_path).done(first, "k") and Ledger(tmp_path).done(third, "k")


def test_lines_that_are_no_records_are_passed_over(tmp_path):
    item = finished(tmp_path, "a", "k")
    with open(tmp_path / stream.LEDGER, "ab") as file:
        file.write(b'{"source": 3}\n[1]\n\xff\xfe\n{"source": "a.jpg"\nnull\n')
    assert Ledger(tmp_path).done(item, "k")


def test_the_key_follows_the_bytes_and_the_options(tmp_path):
    touch(tmp_path, "a", "b")
    keys = [stream.input_key(tmp_path / "a", "x"), stream.input_key(tmp_path / "b", "x"),
            stream.input_key(tmp_path / "a", "y")]
    assert len(set(keys)) == 3 and keys[0] == stream.input_key(tmp_path / "a", "x")
    with pytest.raises(InputError, match="nowhere: cannot be read"):
        stream.input_key(tmp_path / "nowhere", "x")


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
