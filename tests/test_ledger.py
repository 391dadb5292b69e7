"""The ledger on temporary folders: what it knows after kills, who may work at what, when a file is read again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sigan import ledger as ledgers
from sigan import locks
from sigan.errors import InputError, OutputError
from sigan.events import Failure
from sigan.ledger import Ledger
from sigan.sources import Item

one_machine = pytest.mark.skipif(not locks.OWNED_BY_FILE, reason="locks of two open files in one process: Linux only")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


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
    path = tmp_path / ledgers.LEDGER
    path.write_bytes(path.read_bytes()[:-cut])
    ledger = Ledger(tmp_path)
    assert ledger.done(first, "k") and ledger.done(second, "k") is (cut == 1)
    third = finished(tmp_path, "c", "k")
    assert Ledger(tmp_path).done(first, "k") and Ledger(tmp_path).done(third, "k")


def test_lines_that_are_no_records_are_passed_over(tmp_path):
    item = finished(tmp_path, "a", "k")
    with open(tmp_path / ledgers.LEDGER, "ab") as file:
        file.write(b'{"source": 3}\n[1]\n\xff\xfe\n{"source": "a.jpg"\nnull\n')
    assert Ledger(tmp_path).done(item, "k")


def test_the_key_follows_the_bytes_and_the_options(tmp_path):
    touch(tmp_path, "a", "b")
    keys = [ledgers.input_key(tmp_path / "a", "x"), ledgers.input_key(tmp_path / "b", "x"),
            ledgers.input_key(tmp_path / "a", "y")]
    assert len(set(keys)) == 3 and keys[0] == ledgers.input_key(tmp_path / "a", "x")
    with pytest.raises(InputError, match="nowhere: cannot be read"):
        ledgers.input_key(tmp_path / "nowhere", "x")


def test_ten_thousand_lines_are_told_apart_and_found_again(tmp_path):
    items = [Item(Path(f"{k}.jpg"), Path(f"{k % 10}/{k}.jpg")) for k in range(10_000)]
    with open(tmp_path / ledgers.LEDGER, "w") as file:
        for key in ("old", "k"):
            for item in items:
                entry = {"source": item.relative.as_posix(), "key": f"{key}{item.path}", "outputs": ["x"]}
                file.write(json.dumps(entry) + "\n")
    ledger = Ledger(tmp_path)
    assert all(ledger.last(item)["key"] == f"k{item.path}" for item in items[::37])
    assert ledger.last(Item(Path("n.jpg"), Path("n.jpg"))) is None


def test_lines_of_many_processes_are_all_there(tmp_path):
    """Four processes add 100 lines each to one file, which ends in a torn line; none is lost or mixed."""
    (tmp_path / ledgers.LEDGER).write_bytes(b'{"source": "torn')
    code = ("import sys; from pathlib import Path; from sigan.ledger import Ledger; from sigan.sources import Item\n"
            "out = Path(sys.argv[1]); ledger = Ledger(out)\n"
            "for k in range(100):\n"
            "    name = f'{sys.argv[2]}-{k}'; ledger.record(Item(Path(name), Path(name)), 'k' * 3000, [out / name])\n")
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(k)]) for k in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    lines = (tmp_path / ledgers.LEDGER).read_bytes().splitlines()
    names = [json.loads(line)["source"] for line in lines[1:]]
    assert sorted(names) == sorted(f"{j}-{k}" for j in range(4) for k in range(100))


# ---- claims

@one_machine
def test_what_one_has_claimed_no_other_gets(tmp_path):
    one, other = Ledger(tmp_path), Ledger(tmp_path)
    a, b = Item(Path("a"), Path("a")), Item(Path("b"), Path("b"))
    assert one.claim(a) and not other.claim(a) and other.claim(b) and not one.claim(b)
    one.release(a)
    assert other.claim(a)
    other.close()
    assert one.claim(a) and one.claim(b)


def test_a_killed_process_holds_nothing(tmp_path):
    code = ("import sys; from pathlib import Path; from sigan.ledger import Ledger; from sigan.sources import Item\n"
            "print(Ledger(sys.argv[1]).claim(Item(Path('a'), Path('a'))), flush=True); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"True\n"
        a = Item(Path("a"), Path("a"))
        assert not Ledger(tmp_path).claim(a)
        process.kill()
        process.wait()
        assert Ledger(tmp_path).claim(a)


@one_machine
def test_unfinished_files_go_when_nobody_else_works_there(tmp_path):
    part = ".a.png.0123abcd.part"
    touch(tmp_path, part)
    other = Ledger(tmp_path)
    other.claim(Item(Path("b"), Path("b")))
    with Ledger(tmp_path).working([tmp_path]):
        assert (tmp_path / part).exists()  # it may be the other's
    other.close()
    touch(tmp_path, part)
    with Ledger(tmp_path).working([tmp_path]):
        assert not (tmp_path / part).exists()


@one_machine
def test_an_empty_ledger_goes_with_the_folder_made_for_it_unless_another_works_there(tmp_path):
    out = tmp_path / "out"
    with Ledger(out).working():
        with Ledger(out).working():
            assert (out / ledgers.LEDGER).exists()
        assert (out / ledgers.LEDGER).exists()
        late = Ledger(out)
    assert not out.exists()
    item = finished(out, "a", "k")
    assert late.done(item, "k") is False
    late.refresh()
    assert late.done(item, "k")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    touch(tmp_path, "file")
    with pytest.raises(OutputError, match="sigan-ledger.jsonl: cannot be written"):
        Ledger(tmp_path / "file").claim(Item(Path("a"), Path("a")))


# ---- what changed

@pytest.fixture
def settled(monkeypatch):
    """Files of a moment ago count as old."""
    monkeypatch.setattr(ledgers, "SETTLED", -60.0)


def remember(folder: Path, **how) -> tuple[Ledger, Item]:
    item = Item(folder / "a.jpg", Path("a.jpg"))
    touch(folder, "a.jpg", "a.png")
    ledger = Ledger(folder)
    ledger.record(item, ledgers.input_key(item.path, "x"), [folder / "a.png"], ledgers.stamp(item.path))
    return ledger, item


def test_an_unchanged_file_is_not_read_and_a_changed_one_is_known_even_with_its_old_size_and_time(
        tmp_path, settled, monkeypatch):
    ledger, item = remember(tmp_path)
    key, read = ledgers.input_key, []
    monkeypatch.setattr(ledgers, "input_key", lambda path, identity: read.append(path) or key(path, identity))
    assert ledger.current(item, "x") and not ledger.current(item, "y") and read == []
    before = os.stat(item.path)
    item.path.write_bytes(b"b.jpg")
    os.utime(item.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(item.path).st_mtime_ns == before.st_mtime_ns
    assert ledger.current(item, "x") is None and read == [item.path]


def test_a_file_that_was_only_touched_is_read_once(tmp_path, settled, monkeypatch):
    ledger, item = remember(tmp_path)
    os.utime(item.path, ns=(1, 1))
    assert ledger.current(item, "x")
    monkeypatch.setattr(ledgers, "input_key", lambda *_: pytest.fail("read again"))
    assert ledger.current(item, "x") and Ledger(tmp_path).current(item, "x")


def test_a_file_of_this_moment_has_no_stamp(tmp_path):
    ledger, item = remember(tmp_path)
    assert ledger.last(item)["stamp"] is None and ledger.current(item, "x")


def test_an_output_without_content_is_none(tmp_path):
    """As a power cut leaves it."""
    ledger, item = remember(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    assert ledger.current(item, "x") is None


def test_a_face_that_is_gone_takes_its_portrait_along_but_other_options_take_nothing(tmp_path):
    item = Item(tmp_path / "a.jpg", Path("a.jpg"))
    touch(tmp_path, "a-1.png", "a-2.png", "a-3.png", "a.png", "a.webp", "b.png")
    ledger = Ledger(tmp_path)

    def record(content: str, options: str, *names: str) -> list[str]:
        tail = ledgers.suffix(options)
        ledger.record(item, content + tail, [tmp_path / name for name in names])
        return sorted(path.name for path in tmp_path.glob("[a-z]*"))

    everything = record("1", "all", "a-1.png", "a-2.png", "a-3.png")
    assert record("2", "all", "a-1.png", "a-2.png") == [name for name in everything if name != "a-3.png"]
    assert record("2", "webp", "a.webp") == [name for name in everything if name != "a-3.png"]


def test_a_failure_is_remembered_until_the_file_changes(tmp_path):
    touch(tmp_path, "a.jpg")
    item = Item(tmp_path / "a.jpg", Path("a.jpg"))
    Ledger(tmp_path).record_failure(item, ledgers.input_key(item.path, "x"), Failure("NoFaceError", "no face", "hint"))
    ledger = Ledger(tmp_path)
    assert ledger.current(item, "x")["error"] == {"type": "NoFaceError", "message": "no face", "hint": "hint"}
    item.path.write_bytes(b"other")
    assert ledger.current(item, "x") is None
