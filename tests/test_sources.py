"""What a source holds: what is found in folders and lists, what belongs to a shard, what a watch gives."""

from __future__ import annotations

import io
import os
from itertools import count
from pathlib import Path

import pytest

from sigan import sources
from sigan.errors import ConfigError, InputError, OutputError
from sigan.ledger import LEDGER
from sigan.sources import Item, Shard


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def found(*args, **kwargs) -> list[str]:
    return [item.relative.as_posix() for item in sources.find_inputs(*args, **kwargs)]


def test_a_folder_is_searched_in_order_without_what_is_hidden_or_no_picture(tmp_path):
    touch(tmp_path, "b/z.PNG", "b/a.jpg", "a.webp", ".hidden.png", ".cache/x.png", "notes.txt", LEDGER)
    assert found(tmp_path) == ["a.webp", "b/a.jpg", "b/z.PNG"]


def test_the_output_folder_inside_the_input_is_not_read_again(tmp_path):
    touch(tmp_path, "a.jpg", "out/a.png", "out/deep/b.png", "outer/c.png")
    assert found(tmp_path, out=tmp_path / "out") == ["a.jpg", "outer/c.png"]


def test_the_output_folder_is_not_the_input_folder(tmp_path):
    touch(tmp_path, "a.jpg")
    with pytest.raises(OutputError, match="is the input folder"):
        sources.find_inputs(tmp_path, out=tmp_path / "x" / "..")


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
        sources.find_inputs(source, listing=io.StringIO(""))
    assert str(source) in caught.value.message or source == "-"
    assert caught.value.hint


def test_names_may_hold_anything_that_a_file_system_takes(tmp_path):
    """Newlines, quotes and bytes that are no text: found in a folder, and in a list divided by NULs."""
    raw = [b"a\nb.jpg", b"caf\xe9.png", b" .jpg", "\u5c71.png".encode(), b"q'\".jpg"]
    for name in raw:
        Path(tmp_path, os.fsdecode(name)).write_bytes(b"x")
    names = sorted(os.fsdecode(name) for name in raw)
    assert found(tmp_path) == names
    listing = io.BytesIO(b"\0".join(raw) + b"\0")
    assert sorted(found("-", listing=listing)) == names
    assert found("-", listing=io.BytesIO(b"caf\xe9.png\n")) == [os.fsdecode(b"caf\xe9.png")]


def test_circles_of_links_end(tmp_path):
    """A link to a folder is not followed; one that leads to itself is an input, which will fail."""
    touch(tmp_path, "a/b.jpg")
    (tmp_path / "a/up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a/self.jpg").symlink_to(tmp_path / "a/self.jpg")
    (tmp_path / "a/other.jpg").symlink_to(tmp_path / "a/b.jpg")
    assert found(tmp_path) == ["a/b.jpg", "a/other.jpg", "a/self.jpg"]
    assert found(tmp_path / "a/self.jpg") == ["self.jpg"]


def test_a_folder_that_cannot_be_searched_is_an_input_and_the_top_one_an_error(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.jpg", "b/2.jpg", "c.jpg")
    scandir = os.scandir

    def closed(path):
        if Path(path) == shut:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    shut = tmp_path / "a"
    assert found(tmp_path) == ["a", "b/2.jpg", "c.jpg"]
    shut = tmp_path
    with pytest.raises(InputError, match="cannot be searched .Permission denied"):
        sources.find_inputs(tmp_path)


# ---- shards

@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_shards_are_the_whole_and_share_nothing(count):
    items = [Item(Path(f"in/{k}.jpg"), Path(f"{k}.jpg")) for k in range(500)]
    parts = [Shard(k + 1, count).of(items) for k in range(count)]
    assert sorted(item.relative for part in parts for item in part) == sorted(item.relative for item in items)
    assert min(len(part) for part in parts) > 500 / count * 0.7
    later = [item for item in items[::-3]]
    assert [item for item in later if item in parts[0]] == Shard(1, count).of(later)  # whatever else there is


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "1/0", "-1/4", "a/b", "1/4/2", "1 / 4"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ConfigError, match="I/N") as caught:
        Shard.parse(text)
    assert repr(text) in caught.value.message and "--shard 1/4" in caught.value.hint
    assert Shard.parse("3/4") == Shard(3, 4)


# ---- watching

def test_a_watch_gives_what_is_new_and_changed_once_it_rests(tmp_path, monkeypatch):
    steps = count()

    def sleep(seconds: float) -> None:
        step = next(steps)
        if step == 0:
            touch(tmp_path, "b.jpg")
        if step in (1, 2):  # it is still being copied
            (tmp_path / "c.jpg").write_bytes(b"x" * step)
        if step == 5:
            (tmp_path / "a.jpg").write_bytes(b"changed")
        if step == 8:
            (tmp_path / "b.jpg").unlink()
        if step == 10:
            touch(tmp_path, "b.png", "b.jpg")

    monkeypatch.setattr(sources.time, "sleep", sleep)
    touch(tmp_path, "a.jpg")
    watched = sources.watch(tmp_path)
    given = [[(item.relative.name, item.keep_extension) for item in next(watched)] for _ in range(5)]
    assert given == [[("a.jpg", False)], [("b.jpg", False)], [("c.jpg", False)], [("a.jpg", False)],
                     [("b.jpg", True), ("b.png", True)]]


def test_a_watch_wants_a_folder_and_takes_an_empty_one(tmp_path):
    assert next(sources.watch(tmp_path)) == []
    with pytest.raises(ConfigError, match="nothing to watch"):
        next(sources.watch(tmp_path / "a.jpg"))
