"""`sigan train` for a few steps on a tiny base: a pack that stylize takes, a sheet, and early refusals."""

from __future__ import annotations

import io
import json
import os
import signal

import numpy as np
import pytest
from PIL import Image

from sigan import images, packs, runtime, states, styles
from sigan.cli.app import main

pytestmark = pytest.mark.usefixtures("pretend_faces", "tiny_base")


def train(name, *arguments) -> int:
    return main(["train", name, *map(str, arguments), "--steps", "2", "--device", "cpu"])


def test_a_style_is_learned_installed_and_used(draw, tmp_path, tiny_base, capsys):
    refs = draw(tmp_path / "refs/a.png").parent
    draw(refs / "b.png", seed=2)
    assert train("ink", refs, "--json", "--preview", tmp_path / "preview", "--seed", 3, "--author", "Ann",
                 "--licence", "CC0-1.0", "--references-licence", "my own drawings") == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["name"] == "ink" and told["references"] == 2 and told["seed"] == 3
    assert "perceptual loss: " in err and told["perceptual"] in err and "faces of nobody" in err and "--photos" in err
    manifest = styles.verify("ink")
    assert (manifest.name, manifest.base_hash, manifest.references) == ("ink", tiny_base.hash, 2)
    assert (manifest.author, manifest.licence, manifest.references_licence) == ("Ann", "CC0-1.0", "my own drawings")
    assert manifest.base_licence == tiny_base.licence and manifest.made_with.startswith("sigan ")
    assert manifest.figures == told["figures"] and manifest.figures["style"]["faces"] == 8
    strip = np.array(Image.open(io.BytesIO(packs.preview(styles.find("ink").path))))
    assert strip.shape[0] > 2 * tiny_base.resolution < strip.shape[1]  # two faces, before and after
    assert images.read(tmp_path / "preview/references.png").shape[1] > 2 * tiny_base.resolution
    assert styles.find("ink").path.parent == runtime.home() / "styles"
    picture = draw(tmp_path / "photo.png", seed=5)
    assert main(["stylize", "--style", "ink", str(picture), str(tmp_path / "out"), "--device", "cpu"]) == 0


def test_out_names_the_file_and_installs_nothing(draw, tmp_path):
    pack = tmp_path / "deep/ink.safetensors"
    assert train("ink", draw(tmp_path / "a.png"), "--out", pack, "--quiet") == 0
    assert packs.StylePack.load(pack).manifest.name == "ink" and "ink" not in styles.installed()
    assert packs.StylePack.load(pack).packed
    assert train("ink", tmp_path / "a.png", "--out", pack) == 2
    assert train("ink", tmp_path / "a.png", "--out", pack, "--overwrite", "--quiet", "--full") == 0
    assert not packs.StylePack.load(pack).packed


def test_a_reference_without_a_face_is_named_and_left_out(draw, tmp_path, capsys):
    draw(tmp_path / "refs/a.png"), draw(tmp_path / "refs/grey.png", 0)
    assert train("ink", tmp_path / "refs", "--json") == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["references"] == 1 and "grey.png: no face found" in told["rejected"][0]
    assert "error: " in err and "grey.png" in err and "--aligned" in err


@pytest.mark.parametrize(("name", "arguments", "code", "said"), [
    ("ink", ["grey.png"], 4, "grey.png"),
    ("ink", ["empty"], 3, "empty: the folder holds no picture"),
    ("ink", ["torn.png"], 3, "torn.png: cannot be read"),
    ("in/k", ["a.png"], 2, "'in/k' cannot name a style"),
    ("old", ["a.png"], 2, "'old' is installed already"),
    ("ink", ["a.png", "--out", "torn.png/x.safetensors"], 2, "torn.png is a file"),
    ("ink", ["a.png", "--swap-layers", "seven"], 2, "--swap-layers is 'seven'"),
    ("ink", ["a.png", "--recipe", "magic"], 2, "magic"),
    ("ink", ["a.png", "--alpha", "2"], 2, "alpha is 2"),
    ("ink", ["a.png", "--train-from", "0"], 2, "train_from is 0"),
    ("ink", ["a.png", "--author", "\x1b[2J"], 2, r"--author is '\x1b[2J'"),
    ("ink", ["a.png", "--references-licence", "x" * 2000], 2, "--references-licence is 'xxx"),
])
def test_what_cannot_work_is_refused_before_training(name, arguments, code, said, draw, tmp_path, tiny_pack, capsys,
                                                     monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "a.png"), draw(tmp_path / "grey.png", 0)
    (tmp_path / "torn.png").write_text("torn")
    (tmp_path / "empty").mkdir()
    tiny_pack.save(tmp_path / "old.safetensors")
    styles.install(tmp_path / "old.safetensors", "old")
    before = sorted(tmp_path.rglob("*"))
    assert train(name, *arguments) == code
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before and set(styles.installed()) == {"old"}


def test_check_tells_and_trains_nothing(draw, tmp_path, capsys):
    refs = draw(tmp_path / "refs/a.png").parent
    (refs / "b.png").write_bytes((refs / "a.png").read_bytes())
    draw(refs / "grey.png", 0)
    assert train("ink", refs, "--check", "--json", "--preview", tmp_path / "preview") == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert [one["copy_of"] for one in told["references"]] == [None, 0] and len(told["rejected"]) == 1
    assert {"copies", "one", "unusable"} <= {finding["code"] for finding in told["findings"]}
    assert "2 references, but only 1 different: b.png" in err and "repeats a.png" in err
    assert (tmp_path / "preview/references.png").exists() and "ink" not in styles.installed()


def test_landmarks_help_where_no_face_is_found(draw, tmp_path, capsys):
    from test_references import POINTS

    grey, points = draw(tmp_path / "grey.png", 0), tmp_path / "points.json"
    points.write_text(json.dumps({"grey.png": POINTS}))
    assert train("ink", grey, "--check") == 4
    assert train("ink", grey, "--check", "--json", "--landmarks", points) == 0
    assert json.loads(capsys.readouterr().out)["references"][0]["rung"] == "given"


# ---- cut off, gone on with, stopped

def test_ctrl_c_keeps_the_best_and_resume_ends_as_if_nothing_had_happened(draw, tmp_path, capsys, monkeypatch):
    from sigan.training import StyleTrainer

    refs, options = draw(tmp_path / "a.png"), ("--measure", "1", "--out")
    whole_file = tmp_path / "whole.safetensors"
    assert main(["train", "ink", str(refs), *options, str(whole_file), "--steps", "4", "--device", "cpu"]) == 0
    monkeypatch.setattr("sigan.cli.session.SAVE_EVERY", 0.0)
    whole = StyleTrainer.steps

    def interrupted(self):
        for step in whole(self):
            yield step
            if step.index == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(StyleTrainer, "steps", interrupted)
    capsys.readouterr()
    cut = tmp_path / "cut.safetensors"
    assert main(["train", "ink", str(refs), *options, str(cut), "--steps", "4", "--device", "cpu"]) == 130
    err = capsys.readouterr().err
    best = runtime.home() / "training/ink.best.safetensors"
    assert "the best so far" in err and "--resume goes on" in err and not cut.exists()
    assert packs.StylePack.load(best).manifest.steps in (1, 2)
    monkeypatch.setattr(StyleTrainer, "steps", whole)
    assert main(["train", "ink", str(refs), *options, str(cut), "--steps", "4", "--device", "cpu", "--resume"]) == 0
    assert "resumed at step 2 of 4" in capsys.readouterr().err
    assert packs.StylePack.load(cut).hash == packs.StylePack.load(whole_file).hash
    assert not list((runtime.home() / "training").iterdir())
    assert main(["train", "ink", str(refs), *options, str(cut), "--steps", "4", "--device", "cpu", "--resume",
                 "--overwrite", "--dry-run"]) == 0


def test_a_diverging_run_ends_with_1_names_the_step_and_keeps_the_best(draw, tmp_path, capsys):
    out = tmp_path / "ink.safetensors"
    assert main(["train", "ink", str(draw(tmp_path / "a.png")), "--out", str(out), "--steps", "9", "--measure", "1",
                 "--lr", "1e6", "--device", "cpu"]) == 1
    err = capsys.readouterr().err
    assert "diverged at step" in err and "--lr" in err and not out.exists() and "Traceback" not in err
    kept = runtime.home() / "training/ink.best.safetensors"
    assert ("the best so far, of step " in err) == kept.exists()


def test_ctrl_c_is_heard_between_two_steps(draw, tmp_path, capsys, monkeypatch):
    """A real signal in the middle of a step, as if the weights were half done: the step is finished first."""
    from sigan.finetuning import Finetuner

    whole, seen, before = Finetuner.step, [], signal.getsignal(signal.SIGINT)

    def step(self, *arguments, **options):
        if len(seen) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        seen.append(whole(self, *arguments, **options))
        return seen[-1]

    monkeypatch.setattr(Finetuner, "step", step)
    assert main(["train", "ink", str(draw(tmp_path / "a.png")), "--steps", "5", "--device", "cpu"]) == 130
    assert len(seen) == 2 and "stopping after this step" in capsys.readouterr().err
    (state,) = (runtime.home() / "training").glob("*.state.safetensors")
    assert states.read(state)["done"] == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_preview_gets_strips_and_the_curve(draw, tmp_path, tiny_base):
    folder = tmp_path / "preview"
    assert main(["train", "ink", str(draw(tmp_path / "a.png")), "--out", str(tmp_path / "ink.safetensors"), "--steps",
                 "4", "--measure", "2", "--device", "cpu", "--preview", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "curve.png", "references.png", "step-0002.png", "step-0004.png", "steps.png"]
    assert images.read(folder / "steps.png").shape[0] > 3 * tiny_base.resolution


def test_a_dry_run_tells_the_plan_and_writes_nothing(draw, tmp_path, capsys):
    refs = draw(tmp_path / "a.png")
    before = sorted(tmp_path.rglob("*")), sorted(runtime.home().rglob("*"))
    assert train("ink", refs, "--dry-run", "--json", "--recipe", "jojogan", "--swap-layers", "7-9,17") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["recipe"], told["steps"], told["references"], told["measure"]) == ("jojogan", 2, 1, 0)
    assert told["output"].endswith("styles/ink.safetensors") and told["resumable"] is None
    assert (sorted(tmp_path.rglob("*")), sorted(runtime.home().rglob("*"))) == before


def test_no_steps_and_photographs_without_faces_are_refused(draw, tmp_path, capsys):
    refs, grey = draw(tmp_path / "a.png"), draw(tmp_path / "grey/b.png", 0).parent
    assert main(["train", "ink", str(refs), "--steps", "0", "--device", "cpu"]) == 2
    assert train("ink", refs, "--photos", grey) == 4
    assert train("ink", refs, "--style", "old") == 2 and main(["train", "ink"]) == 2
    err = capsys.readouterr().err
    assert "steps is 0" in err and "none of the 1 photos can be used" in err and "--style goes with --person" in err


def test_a_person_is_sharpened_and_worn(draw, tmp_path, tiny_pack, capsys):
    tiny_pack.save(tmp_path / "warm.safetensors")
    styles.install(tmp_path / "warm.safetensors", "warm")
    photo = draw(tmp_path / "ann lee.png", seed=5)
    arguments = ["train", "--person", str(photo), "--style", "warm", "--steps", "2", "--device", "cpu", "--json"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == "ann-lee" and told["steps"] == 2 and "warm" in told["style"]
    assert "ann-lee" not in styles.installed()
    portraits = []
    for extra in ([], ["--person", "ann-lee"], ["--person", told["output"]]):
        folder = tmp_path / f"out{len(portraits)}"
        assert main(["stylize", "--style", "warm", *extra, str(photo), str(folder), "--device", "cpu"]) == 0
        portraits.append(images.read(folder / "ann lee.png"))
    assert not np.array_equal(portraits[0], portraits[1]) and np.array_equal(portraits[1], portraits[2])
    assert main(arguments) == 2 and main(arguments[:3]) == 2 and main([*arguments, "--overwrite"]) == 0
    err = capsys.readouterr().err
    assert "a person called 'ann-lee' already" in err and "--person needs --style" in err
