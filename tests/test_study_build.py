"""`sigan study build`: what a study holds, what it leaves out and says so, and what it refuses."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import voters
from PIL import Image

from sigan import images
from sigan.cli.app import main
from sigan.errors import ConfigError, InputError, OutputError
from sigan.study import build as building
from sigan.study import page, plan


def test_a_study_is_what_was_built_and_is_read_back(tmp_path):
    built = voters.make(tmp_path)
    study = plan.load(built.folder)
    assert study == built.study and study.hash == built.study.hash
    assert study.methods == voters.METHODS and len(study.pairs) == 4 * 3 + 2 and study.length == 6 + 2
    for pair in study.pairs[:-2]:  # one photograph, two methods
        names = {study.names[picture] for picture in (pair.photograph, pair.a, pair.b)}
        assert len(names) == 1 and study.drawn_by[pair.a] != study.drawn_by[pair.b]
    assert sorted(study.drawn_by.values()) == sorted(list(voters.METHODS) * 4)
    for picture, method in study.drawn_by.items():  # the pixels are those of the method
        source = images.read(tmp_path / f"m{voters.METHODS.index(method)}" / f"{study.names[picture]}.png")
        assert np.array_equal(images.read(built.folder / "pictures" / f"{picture}.png"), source)


def test_the_seed_fixes_who_sees_what_and_not_the_ids(tmp_path):
    one, two = (voters.make(tmp_path / name, seed=seed) for name, seed in (("a", 5), ("b", 5)))
    other = voters.make(tmp_path / "c", seed=6)
    assert one.study.sheets == two.study.sheets != other.study.sheets
    assert not set(one.study.pictures) & set(two.study.pictures)


def test_metadata_and_sizes_tell_nothing(tmp_path):
    for k, (name, side) in enumerate((("xq-one", 64), ("xq-two", 32))):
        voters.draw(tmp_path / name, 2, k, side)
    path = tmp_path / "xq-one" / "p0.png"
    exif = Image.Exif()
    exif[0x010E] = "drawn by xq-one"
    with Image.open(path) as image:
        image.save(path.with_suffix(".jpg"), exif=exif)
    path.unlink()
    built = building.build(tmp_path / "study", {"xq-one": tmp_path / "xq-one", "xq-two": tmp_path / "xq-two"})
    for file in (built.folder / "pictures").iterdir():
        assert b"drawn by" not in file.read_bytes()
        with Image.open(file) as image:
            assert image.size == (64, 64) and not image.getexif()  # the smaller are enlarged
    assert "xq-" not in (built.folder / "page.html").read_text()


def test_a_spoilt_picture_has_its_pixels_elsewhere():
    image = np.arange(36 * 36 * 3, dtype=np.uint32).reshape(36, 36, 3).astype(np.uint8)
    image[..., 0] = np.arange(36)[:, None] // 6 * 6 + np.arange(36)[None] // 6  # the number of each tile
    spoilt = building.spoil(image, random.Random(0))
    assert sorted(spoilt.reshape(-1, 3).tolist()) == sorted(image.reshape(-1, 3).tolist())
    assert (spoilt[..., 0] != image[..., 0]).all()


def test_missing_and_unreadable_pictures_are_told(tmp_path, capsys):
    for k, name in enumerate(("a", "b", "photos")):
        voters.draw(tmp_path / name, 4, k)
    (tmp_path / "b" / "p1.png").unlink()
    (tmp_path / "photos" / "p2.png").unlink()
    (tmp_path / "a" / "p3.png").write_bytes(b"no picture")
    code = main(["study", "build", str(tmp_path / "out"), f"a={tmp_path / 'a'}", f"b={tmp_path / 'b'}",
                 "--inputs", str(tmp_path / "photos"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == 3 and told["pictures"] == ["p0"]
    assert told["missing"] == {"b": ["p1"], "--inputs": ["p2"]}
    assert "p3.png" in told["failures"][0]["message"]


def test_faces_of_one_photograph_find_it(tmp_path):
    for k, name in enumerate(("a", "b")):
        voters.draw(tmp_path / name, 1, k).joinpath("p0.png").rename(tmp_path / name / "p0-2.png")
    built = building.build(tmp_path / "out", {"a": tmp_path / "a", "b": tmp_path / "b"},
                           inputs=voters.draw(tmp_path / "photos", 1, 3))
    assert built.missing == {} and len(built.study.pairs) == 1 + 4


def test_identical_pictures_are_told(tmp_path):
    folders = {name: voters.draw(tmp_path / name, 1, 0) for name in ("a", "b")}
    assert "identical" in building.build(tmp_path / "out", folders).notes[0]


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["{out}", "a={a}"], 2, "needs two"), (["{out}", "a={a}", "a={b}"], 2, "twice"),
    (["{out}", "{a}"], 2, "METHOD=DIR"),
    (["{out}", "a={a}", "b={a}"], 2, "same folder"), (["{out}", "a={a}", "b={none}"], 3, "no such folder"),
    (["{out}", "a={a}", "b={empty}"], 3, "holds no picture"), (["{out}", "a={a}", "b={other}"], 3, "same name"),
    (["{a}", "a={a}", "b={b}"], 2, "not empty"), (["{file}/x", "a={a}", "b={b}"], 2, "file"),
    (["{out}", "a={a}", "b={b}", "--trials", "0"], 2, "trials"), (["{out}", " ={a}", "b={b}"], 2, "name"),
    (["{out}", "a={a}", "b={b}", "--format", "bmp"], 2, "format"),
    (["{out}", "a={a}", "b={b}", "--texts", "{file}"], 2, "JSON")])
def test_what_cannot_be_built(tmp_path, arguments, code, said, capsys):
    places = {name: voters.draw(tmp_path / name, 2, k) for k, name in enumerate(("a", "b"))}
    places["other"] = tmp_path / "other"
    places["other"].mkdir()
    (tmp_path / "a" / "p0.png").rename(tmp_path / "other" / "elsewhere.png")
    places |= {"out": tmp_path / "out", "none": tmp_path / "none", "empty": tmp_path / "empty", "file": tmp_path / "f"}
    places["empty"].mkdir()
    places["file"].write_text("x")
    assert main(["study", "build", *(one.format(**places) for one in arguments)]) == code
    err = capsys.readouterr().err
    assert said in err
    assert not places["out"].exists()  # whole or not at all


def test_a_study_with_votes_is_never_replaced(tmp_path):
    folders = {name: voters.draw(tmp_path / name, 1, k) for k, name in enumerate(("a", "b"))}
    out = tmp_path / "out"
    first = building.build(out, folders)
    with pytest.raises(OutputError, match="already"):
        building.build(out, folders)
    second = building.build(out, folders, overwrite=True)
    assert plan.load(out).hash == second.study.hash != first.study.hash
    (out / "votes.sqlite").write_bytes(b"")
    with pytest.raises(OutputError, match="votes"):
        building.build(out, folders, overwrite=True)


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda text: text.replace("alpha-secret", "gamma-secret"), "changed after"),
    (lambda text: text.replace(plan.FORMAT, "sigan-study/0"), "format"), (lambda text: "{}", "format"),
    (lambda text: "[" * 100000, "cannot be read"), (lambda text: text[:-5], "cannot be read")])
def test_an_old_or_foreign_study_is_told(tmp_path, spoil, said, capsys):
    folder = voters.make(tmp_path).folder
    path = folder / plan.FILE
    path.write_text(spoil(path.read_text()))
    with pytest.raises(InputError, match=said):
        plan.load(folder)
    for command in ("serve", "tally"):
        assert main(["study", command, str(folder)]) == 3
    assert main(["study", "serve", str(tmp_path)]) == main(["study", "tally", str(tmp_path / "photos")]) == 3
    assert "study build" in capsys.readouterr().err


def test_a_changed_picture_is_not_served(tmp_path, capsys):
    folder = voters.make(tmp_path).folder
    next((folder / "pictures").iterdir()).write_bytes(b"x")
    assert main(["study", "serve", str(folder)]) == 3
    assert "changed after" in capsys.readouterr().err


def test_own_texts_are_shown_as_text_in_both_languages(tmp_path):
    evil = "</script><script>alert(1)</script> {{script}}"
    own = {language: {"consent": evil} for language in plan.LANGUAGES}
    built = voters.make(tmp_path, texts=own)
    text = (built.folder / "page.html").read_text()
    assert "</script><script>alert" not in text and text.count("<script") == 2
    start = text.index('id="data">') + len('id="data">')
    assert json.loads(text[start:text.index("</script>", start)])["texts"]["zh"]["consent"] == evil
    for bad, said in (({"en": {"consent": "x"}}, "too"), ({"xx": {}}, "speaks"),
                      ({"en": {"begin": "x"}}, "cannot be set")):
        with pytest.raises(ConfigError, match=said):
            building.texts(building.BuildConfig(texts=bad), True, True)


def test_both_languages_say_the_same_things():
    words = page.texts()
    assert set(words) == set(plan.LANGUAGES) and words["en"].keys() == words["zh"].keys()
    for key, text in words["en"].items():
        assert sorted(part.split("}")[0] for part in text.split("{")[1:]) == \
            sorted(part.split("}")[0] for part in words["zh"][key].split("{")[1:])
