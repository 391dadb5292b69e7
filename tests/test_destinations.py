"""Where results go: names, refusals, all faces or none, and what a kill left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sigan import destinations, images
from sigan.errors import OutputError
from sigan.sources import Item, find_inputs


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def test_outputs_keep_folder_and_stem_and_faces_are_numbered(tmp_path):
    item = Item(tmp_path / "a/b.c.jpg", Path("a/b.c.jpg"))
    assert destinations.output_path(item, "out", ".png") == Path("out/a/b.c.png")
    assert destinations.output_path(item, "out", ".png", 0, 1) == Path("out/a/b.c.png")
    assert [destinations.output_path(item, "out", ".png", k, 2).name for k in (0, 1)] == ["b.c-1.png", "b.c-2.png"]


@pytest.mark.parametrize("several", [False, True])
def test_no_two_inputs_write_the_same_file(tmp_path, several):
    touch(tmp_path, "b.jpg", "b.png", "B2.jpg", "b2.jpeg", "d/b.jpg", "e.jpg", "e-1.jpg", "f-2.png")
    items = find_inputs(tmp_path, several=several)
    counts = (1, 3) if several else (1,)
    written = [str(destinations.output_path(item, "out", ".png", k, count)).lower()
               for item in items for count in counts for k in range(count)]
    assert len(set(written)) == len(written)
    names = {item.relative.as_posix(): destinations.output_path(item, "", ".png").as_posix() for item in items}
    assert names["b.jpg"] == "b.jpg.png" and names["d/b.jpg"] == "d/b.png" and names["f-2.png"] == "f-2.png"
    assert (names["e-1.jpg"] == "e-1.jpg.png") is several


def test_an_output_below_a_file_is_refused_and_nothing_is_made(tmp_path):
    touch(tmp_path, "file")
    with pytest.raises(OutputError, match="file is a file"):
        destinations.check_output(tmp_path / "file" / "out")
    with pytest.raises(OutputError, match="looks like a picture"):
        destinations.check_output(tmp_path / "new.png")
    destinations.check_output(tmp_path / "new" / "deep")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_faces_are_written_all_or_none(tmp_path):
    (tmp_path / "a-2.png").mkdir()
    picture = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(OutputError, match="a-2.png"):
        destinations.write_faces(Item(Path("a.jpg"), Path("a.jpg")), [picture] * 3, tmp_path, "png")
    assert [path.name for path in tmp_path.iterdir()] == ["a-2.png"]


def test_an_input_is_never_replaced_by_its_own_output(tmp_path):
    picture = np.zeros((4, 4, 3), np.uint8)
    touch(tmp_path, "a.png")
    with pytest.raises(OutputError, match="would replace the input"):
        destinations.write_faces(Item(tmp_path / "a.png", Path("a.png")), [picture], tmp_path, "png")
    assert (tmp_path / "a.png").read_bytes() == b"a.png"
    assert destinations.write_faces(Item(tmp_path / "a.png", Path("a.png")), [picture], tmp_path, "webp")


def test_what_a_kill_left_is_swept_away_and_nothing_else(tmp_path, monkeypatch):
    """The files swept are those that `images.atomic_write` leaves when it dies before it renames."""
    touch(tmp_path, "a.png", ".a.png.part", "b.part", ".hidden", "deep/.x.png.0123abcd.part", "deep/c.png")
    with monkeypatch.context() as dead:
        dead.setattr(images.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        dead.setattr(Path, "unlink", lambda *_, **__: None)
        for name in ("a.png", "x" * 200 + "\n.png"):
            with pytest.raises(KeyboardInterrupt):
                images.atomic_write(tmp_path / name, b"half")
    assert len(list(tmp_path.iterdir())) == 7
    assert destinations.sweep([tmp_path, tmp_path / "nowhere"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.png.part", ".hidden", "a.png", "b.part", "deep"]
    assert destinations.sweep([tmp_path / "deep"]) == 1
