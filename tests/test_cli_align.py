"""`sigan align` on pretended faces: files, reports, exit codes, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sigan import alignment, images
from sigan.cli.app import main

pytestmark = pytest.mark.usefixtures("pretend_faces")
SIZE = ("--size", "32")


def names(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_keeps_its_shape_and_one_bad_file_does_not_stop_it(draw, tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    draw(source / "a/one.jpg"), draw(source / "two.png", 2), draw(source / "none.png", 0)
    (source / "torn.jpg").write_bytes((source / "a/one.jpg").read_bytes()[:900])
    assert main(["align", str(source), str(out), "--faces", "all", "--json", *SIZE]) == 3
    assert names(out) == [".sigan-ledger.jsonl", "a/one.png", "two-1.png", "two-2.png"]
    printed, err = capsys.readouterr()
    *records, last = map(json.loads, printed.splitlines())
    status = {record["source"].rsplit("/", 1)[-1]: record for record in records}
    assert {name: record["status"] for name, record in status.items()} == {
        "one.jpg": "ok", "two.png": "ok", "none.png": "failed", "torn.jpg": "failed"}
    assert status["two.png"]["output"] == [str(out / "two-1.png"), str(out / "two-2.png")]
    assert status["none.png"]["error"]["type"] == "NoFaceError" and "--aligned" in status["none.png"]["error"]["hint"]
    assert status["torn.jpg"]["error"]["type"] == "UnreadableImageError"
    assert {**last["summary"], "seconds": 0} == {"ok": 2, "failed": 2, "skipped": 0, "seconds": 0}
    assert "none.png: no face found" in err


def test_the_crop_is_the_librarys(draw, tmp_path):
    picture = draw(tmp_path / "a.png")
    assert main(["align", str(picture), str(tmp_path / "out"), "--quiet", *SIZE]) == 0
    expected = alignment.align(picture, 32)[0].image
    np.testing.assert_array_equal(images.read(tmp_path / "out/a.png"), expected)


def test_of_many_faces_the_largest_is_taken_and_it_is_said(draw, tmp_path, capsys):
    picture = draw(tmp_path / "crowd.png", 3)
    assert main(["align", str(picture), str(tmp_path / "out"), *SIZE]) == 0
    assert names(tmp_path / "out") == [".sigan-ledger.jsonl", "crowd.png"]
    assert "3 faces" in (err := capsys.readouterr().err) and "--faces all" in err
    expected = alignment.align(picture, 32, "all")[2].image
    np.testing.assert_array_equal(images.read(tmp_path / "out/crowd.png"), expected)


def test_a_second_run_skips(draw, tmp_path, capsys):
    draw(tmp_path / "in/a.png")
    command = ["align", str(tmp_path / "in"), str(tmp_path / "out"), "--json"]
    for extra, status in ((SIZE, "ok"), (SIZE, "skipped"), (("--size", "16"), "ok"), (("--size", "16"), "skipped"),
                          (("--size", "16", "--overwrite"), "ok")):
        assert main([*command, *extra]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[0])["status"] == status


def test_a_list_on_stdin_keeps_its_folders(draw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "x/a.png"), draw(tmp_path / "y/a.png")
    monkeypatch.setattr("sys.stdin", ["x/a.png\n", "y/a.png\n"])
    assert main(["align", "-", "out", "--quiet", *SIZE]) == 0
    assert names(tmp_path / "out") == [".sigan-ledger.jsonl", "x/a.png", "y/a.png"]


def test_a_report_that_cannot_be_written_is_told_before_the_work(draw, tmp_path, capsys):
    source = draw(tmp_path / "in" / "a.png")
    (tmp_path / "file").write_text("in the way")
    report = tmp_path / "file" / "report.jsonl"
    assert main(["align", str(source), str(tmp_path / "out"), "--report", str(report), *SIZE]) == 2
    assert "is a file" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_report_tells_what_was_found_and_why_not(draw, tmp_path):
    source = tmp_path / "in"
    draw(source / "a.png", 2), draw(source / "b.png", 0)
    report = tmp_path / "report.jsonl"
    assert main(["align", str(source), str(tmp_path / "out"), "--faces", "all", "--report", str(report), *SIZE]) == 3
    first, second = map(json.loads, report.read_text().splitlines())
    assert [face["step"] for face in first["detected"]] == ["hog", "hog"]
    assert np.shape(first["detected"][0]["landmarks"]) == (68, 2) and np.shape(first["detected"][0]["quad"]) == (4, 2)
    assert second["detected"] == [] and second["error"]["type"] == "NoFaceError"


def test_landmarks_in_a_file_replace_detection(draw, tmp_path, capsys):
    picture = draw(tmp_path / "in/grey.png", 0)
    points = alignment.DlibAligner().find(images.read(draw(tmp_path / "face.png")))[0].landmarks
    file = tmp_path / "points.json"
    file.write_text(json.dumps(points.tolist()))
    assert main(["align", str(picture), str(tmp_path / "out"), "--landmarks", str(file), *SIZE]) == 0
    file.write_text("[[1, 2]")
    assert main(["align", str(picture), str(tmp_path / "out"), "--landmarks", str(file), *SIZE]) == 2
    assert str(file) in capsys.readouterr().err
    file.write_text(json.dumps(points.tolist()))
    draw(tmp_path / "in/deep/other.png", 0), draw(tmp_path / "in/face.png")
    folder = ["align", str(tmp_path / "in"), str(tmp_path / "out"), "--landmarks", str(file), *SIZE]
    assert main(folder) == 2 and "describes one picture" in capsys.readouterr().err
    file.write_text(json.dumps({"grey.png": points.tolist(), "deep/other.png": points.tolist()}))
    assert main(folder) == 0 and len(names(tmp_path / "out")) == 4
    file.write_text(json.dumps({"gray.png": points.tolist()}))
    assert main(folder) == 2 and "gray.png, which IN does not have" in capsys.readouterr().err
    file.write_text(json.dumps({"grey.png": [[1, 2], [3]]}))
    assert main(folder) == 3 and "68 finite points" in capsys.readouterr().err


def test_the_middle_square_is_taken_when_asked_and_it_is_said(draw, tmp_path, capsys):
    draw(tmp_path / "in/grey.png", 0), draw(tmp_path / "in/face.png")
    report = tmp_path / "report.jsonl"
    command = ["align", str(tmp_path / "in"), str(tmp_path / "out"), "--no-face", "middle", "--report", str(report)]
    assert main([*command, *SIZE]) == 0
    assert "grey.png: no face found; the middle square is taken" in capsys.readouterr().err
    steps = {json.loads(line)["source"][-8:]: json.loads(line)["detected"][0]["step"]
             for line in report.read_text().splitlines()}
    assert steps == {"grey.png": "middle", "face.png": "hog"}
    assert (images.read(tmp_path / "out/grey.png") == 128).all()
    assert main([*command[:4], "square", *SIZE]) == 2 and "no_face is 'square'" in capsys.readouterr().err


def test_a_crop_says_who_took_the_photograph(draw, tmp_path):
    picture, exif = draw(tmp_path / "a.png"), Image.Exif()
    exif[0x0112], exif[0x013B] = 1, "Ann"
    with Image.open(picture) as img:
        img.save(picture, exif=exif, dpi=(300, 300))
    assert main(["align", str(picture), str(tmp_path / "out"), "--quiet", *SIZE]) == 0
    with Image.open(tmp_path / "out/a.png") as img:
        assert dict(img.getexif()) == {0x013B: "Ann"} and img.info["dpi"][0] == pytest.approx(300, abs=0.02)


@pytest.mark.parametrize(("change", "code", "said"), [
    ({"in": "nowhere"}, 3, "nowhere: no such file"),
    ({"in": "empty"}, 3, "empty: the folder holds no picture"),
    ({"in": "grey.png"}, 4, "grey.png: no face found"),
    ({"in": "text.jpg"}, 3, "text.jpg: cannot be read as a picture"),
    ({"out": "text.jpg/out"}, 2, "text.jpg is a file"),
    ({"out": "text.jpg"}, 2, "text.jpg is a file"),
    ({"options": ["--faces", "some"]}, 2, "faces is 'some'"),
    ({"options": ["--aligner", "dlob"]}, 2, "dlib"),
])
def test_bad_input_is_named_and_leaves_nothing(change, code, said, draw, tmp_path, capsys):
    draw(tmp_path / "face.png"), draw(tmp_path / "grey.png", 0)
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty").mkdir()
    before = names(tmp_path)
    source, out = tmp_path / change.get("in", "face.png"), tmp_path / change.get("out", "out")
    assert main(["align", str(source), str(out), *SIZE, *change.get("options", [])]) == code
    assert said in (err := capsys.readouterr().err) and "Traceback" not in err
    assert "hint: " in err or "must be" in err
    kept = ["out/.sigan-ledger.jsonl"] if code == 4 else []  # it remembers that there was no face
    assert names(tmp_path) == sorted(before + kept) and (tmp_path / "out").exists() == bool(kept)
