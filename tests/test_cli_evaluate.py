"""`sigan eval`: its table, its JSON, its exit codes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sigan import images
from sigan.cli.app import main


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for k, folder in enumerate(("out", "other", "in", "refs")):
        for name in "ab":
            image = np.random.default_rng([k, ord(name)]).integers(0, 256, (48, 48, 3), dtype=np.uint8)
            images.write(tmp_path / folder / f"{name}.png", image)
    return tmp_path


def test_a_table_of_pictures_and_one_of_figures(folders, capfd):
    assert main("eval out --inputs in --references refs --metrics ssim,color --aligned".split()) == 0
    shown = capfd.readouterr()
    assert shown.out == "" and "a.png" in shown.err and "2 and 2 references" in shown.err
    assert "ssim, color: N is 2, below 30" in shown.err


def test_json_tells_pairs_figures_and_a_summary(folders, capfd):
    assert main("eval out --inputs in --aligned --metrics ssim --json".split()) == 0
    told = json.loads(capfd.readouterr().out)
    (figure,) = told["figures"]
    assert figure["metric"] == "ssim" and figure["n"] == 2 and figure["low"] <= figure["value"] <= figure["high"]
    assert told["summary"]["N"] == 2 and told["summary"]["ssim_mean"] == pytest.approx(figure["value"])
    assert [pair["output"] for pair in told["pairs"]] == ["out/a.png", "out/b.png"]


@pytest.mark.parametrize("order", ["eval out --compare other", "eval out other", "eval --compare out other"])
def test_several_methods_share_a_table(folders, capfd, order):
    assert main([*order.split(), *"--references refs --metrics color,kid --features discriminator".split()]) == 0
    shown = capfd.readouterr().err
    assert "compared" in shown and "discriminator of mini" in shown
    assert {line.split()[0] for line in shown.splitlines()[2:4]} == {"out", "other"}
    assert main([*order.split(), *"--references refs --metrics color --json".split()]) == 0
    methods = json.loads(capfd.readouterr().out)["methods"]
    assert {method["name"] for method in methods} == {"out", "other"}


def test_the_report_is_written(folders, capfd):
    assert main("eval out --inputs in --aligned --metrics ssim --report pages/r.html --quiet".split()) == 0
    assert "data:image/jpeg" in (folders / "pages/r.html").read_text("utf-8") and capfd.readouterr().err == ""


@pytest.mark.parametrize(("words", "code", "told"), [
    ("eval out", 2, "--inputs"),
    ("eval out --metrics ssim", 2, "--inputs"),
    ("eval out --inputs in --metrics fid", 2, "--references"),
    ("eval out --inputs in --metrics psnr", 2, "psnr"),
    ("eval out --references refs --metrics kid --features vgg", 2, "squeezenet"),
    ("eval out --inputs in --align --aligned", 2, "contradict"),
    ("eval out --inputs in --report refs", 2, ".html"),
    ("eval out --inputs in --report in/a.png/r.html", 2, "is a file"),
    ("eval out --references refs --metrics fid", 5, "sigan bases pull fid-inception"),
    ("eval out --inputs in --metrics lpips", 5, "sigan bases pull lpips-vgg"),
    ("eval nowhere --inputs in", 3, "nowhere"),
])
def test_what_cannot_be_done_says_why(folders, capfd, words, code, told):
    result = main(words.split())
    assert (result, told in capfd.readouterr().err) == (code, True)


def test_a_missing_pair_is_told_and_the_others_measured(folders, capfd):
    (folders / "in" / "b.png").unlink()
    assert main("eval out --inputs in --aligned --metrics ssim --json".split()) == 3
    shown = capfd.readouterr()
    assert "b.png: it has no photograph" in shown.err and json.loads(shown.out)["summary"]["missing"] == 1


def test_a_single_picture_gives_no_distribution_and_says_so(folders, capfd):
    (folders / "out" / "b.png").unlink()
    assert main("eval out --references refs --metrics kid --features discriminator".split()) == 3
    assert "two pictures a side" in capfd.readouterr().err


def test_photographs_without_a_face_are_the_exit_code_for_that(folders, capfd):
    for name in "ab":
        images.write(folders / "in" / f"{name}.png", np.full((48, 48, 3), 128, np.uint8))
    assert main("eval out --inputs in --metrics ssim".split()) == 4
    assert "no face found" in capfd.readouterr().err
