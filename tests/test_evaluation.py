from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sigan import alignment, evaluation, images, metrics, plugins
from sigan.errors import ConfigError, InputError
from sigan.evaluation import EvalConfig, Evaluation, Pair, PairRecord
from sigan.events import Failure
from sigan.identity import Identity
from sigan.stream import Item

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def identity():
    return Identity()


@pytest.fixture
def photos(shared):
    return shared / "portraits/photos"


def test_pairs_by_folder_stem_name_and_number():
    def items(*names):
        return [Item(Path("x", name), Path(name)) for name in names]

    inputs = items("a/b.jpg", "b.jpg", "c.jpg", "c.png", "d-1.jpg", "e.jpg")
    outputs = items("a/b.png", "b-1.png", "b-2.png", "c.jpg.png", "c.png", "d-1.png", "z.png")
    found = [(pair.output and pair.output.as_posix()[2:], pair.source and pair.source.as_posix()[2:], pair.index)
             for pair in evaluation.match(outputs, inputs)]
    assert found == [("a/b.png", "a/b.jpg", None), ("b-1.png", "b.jpg", 0), ("b-2.png", "b.jpg", 1),
                     ("c.jpg.png", "c.jpg", None), ("c.png", None, None), ("d-1.png", "d-1.jpg", None),
                     ("z.png", None, None), (None, "c.png", None), (None, "e.jpg", None)]


def test_a_folder_against_its_own_aligned_crops(photos, tmp_path, identity):
    ins, outs = tmp_path / "in" / "sub", tmp_path / "out" / "sub"
    ins.mkdir(parents=True)
    for name in ("iu.jpeg", "21.jpeg"):
        (ins / name).write_bytes((photos / name).read_bytes())
    (face,) = alignment.align(ins / "iu.jpeg", 64, aligner=identity.aligner)
    images.write(outs / "iu.png", face.image)
    images.write(outs / "wide.png", face.image[:32])
    (ins / "wide.jpg").write_bytes((photos / "26.jpeg").read_bytes())
    records = list(evaluation.evaluate(tmp_path / "out", tmp_path / "in", ("ssim", "ssim-color", "identity"),
                                       aligner=identity.aligner))
    good, wide, missing = records
    assert good.error is None and good.values["ssim"] == pytest.approx(1) and good.values["ssim-color"] > 0.999
    assert good.values["identity"] < 0.3
    assert wide.error.type == "InputError" and "64 x 32" in wide.error.message
    assert missing.error.type == "MissingPair" and missing.source.endswith("21.jpeg") and not missing.output
    figures = evaluation.summary(records)
    assert (figures["N"], figures["missing"], figures["failed"]) == (1, 1, 1)


def test_aligned_photographs_are_taken_whole(tmp_path):
    face = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    images.write(tmp_path / "in" / "a.png", face)
    images.write(tmp_path / "out" / "a.png", face)
    (record,) = evaluation.evaluate(tmp_path / "out", tmp_path / "in", ["ssim"], aligned=True)
    assert record.values == {"ssim": pytest.approx(1)}


def test_a_face_number_beyond_the_faces_is_a_failure(photos, tmp_path, identity):
    images.write(tmp_path / "iu-2.png", np.zeros((32, 32, 3), np.uint8))
    pair = Pair(tmp_path / "iu-2.png", photos / "iu.jpeg", 1)
    run = Evaluation(tmp_path, photos, config=EvalConfig(metrics=("ssim",)))
    run.pairs = [pair]
    (record,) = run
    assert record.error.type == "InputError" and "1 faces found" in record.error.message and not record.values


def test_summary_means_and_medians():
    records = [PairRecord("a", "a", {"ssim": value}, found=value > 0.1) for value in (0.1, 0.2, 0.6)]
    records += [PairRecord("b", "", error=Failure(kind, "")) for kind in ("MissingPair", "InputError")]
    assert evaluation.summary(records) == {"N": 3, "missing": 1, "misaligned": 0, "failed": 1,
                                           "face_not_found": 1, "ssim_mean": pytest.approx(0.3),
                                           "ssim_median": pytest.approx(0.2)}
    assert evaluation.summary([])["N"] == 0


@pytest.mark.parametrize("metrics", [("ssim", "psnr"), ()])
def test_an_unknown_metric_is_named_before_any_work(tmp_path, metrics):
    with pytest.raises(ConfigError, match="psnr|none") as caught:
        evaluation.evaluate(tmp_path, tmp_path, metrics)
    assert "identity" in caught.value.hint


# ---- beside references, and what cannot be compared

@pytest.fixture
def noise(tmp_path):
    """noise(folder, names, size=64, seed=0, grey=False): pictures without faces."""
    def write(folder, names, size=64, seed=0, grey=False):
        rng = np.random.default_rng(seed)
        for name in names:
            image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
            images.write(tmp_path / folder / f"{name}.png", image[..., :1].repeat(3, -1) if grey else image)
        return tmp_path / folder

    return write


def test_sets_and_pairs_are_measured_in_one_pass(noise):
    run = Evaluation(noise("out", "abc"), noise("in", "abc", seed=1), noise("refs", "xy", seed=2),
                     EvalConfig(metrics=("ssim", "color", "kid"), features="discriminator", aligned=True))
    records = list(run)
    assert len(run) == 5 and [Path(record.output).name for record in records] == ["a.png", "b.png", "c.png"]
    assert all(set(record.values) == {"ssim", "color"} for record in records)
    ssim, color, kid = run.figures()
    assert (ssim.n, color.n, color.references, kid.n, kid.references) == (3, 3, 2, 3, 2)
    assert ssim.value == pytest.approx(np.mean([record.values["ssim"] for record in records]))
    assert kid.features == "discriminator of mini" and kid.resize and kid.low <= kid.value <= kid.high
    assert all(any("below" in warning for warning in figure.warnings) for figure in (ssim, color, kid))


def test_a_result_without_photograph_counts_among_results_only(noise):
    run = Evaluation(noise("out", "abz"), noise("in", "ab", seed=1), noise("refs", "xy", seed=2),
                     EvalConfig(metrics=("ssim", "lines"), aligned=True))
    records = list(run)
    assert [record.error and record.error.type for record in records] == [None, None, "MissingPair"]
    assert [figure.n for figure in run.figures()] == [2, 3] and set(records[2].values) == {"lines"}


def test_auto_takes_what_the_folders_allow(noise):
    out, there = noise("out", "ab"), noise("in", "ab", seed=1)
    assert [m.name for m in Evaluation(out, there).metrics] == ["ssim", "identity"]
    assert [m.name for m in Evaluation(out, None, there).metrics] == ["color", "lines", "copy"]
    assert len(Evaluation(out, there, there).metrics) == 5
    with pytest.raises(ConfigError, match="nothing to compare"):
        Evaluation(out)


@pytest.mark.parametrize(("metric", "lacking"), [("ssim", "inputs"), ("fid", "references"), ("copy", "references")])
def test_a_metric_without_its_folder_is_refused_before_any_work(noise, metric, lacking):
    with pytest.raises(ConfigError, match=f"{metric} compares results with {lacking}") as caught:
        Evaluation(noise("out", "a"), config=EvalConfig(metrics=(metric,), features="discriminator"))
    assert f"--{lacking}" in caught.value.hint


def test_a_plugin_that_makes_no_metric_is_named(noise, monkeypatch):
    monkeypatch.setattr(plugins, "load", lambda group, name: lambda tools: "no metric")
    with pytest.raises(ConfigError, match="'ssim' of package sigan.* makes no metric"):
        Evaluation(noise("out", "a"), noise("in", "a"), config=EvalConfig(metrics=("ssim",)))


def test_an_empty_folder_is_named(noise, tmp_path):
    (tmp_path / "empty").mkdir()
    for folders in ((tmp_path / "empty", noise("in", "a")), (noise("out", "a"), tmp_path / "empty")):
        with pytest.raises(InputError, match="empty: the folder holds no picture"):
            Evaluation(*folders)


def test_a_single_picture_has_no_distribution(noise):
    run = Evaluation(noise("out", "a"), None, noise("refs", "x"),
                     EvalConfig(metrics=("fid", "kid"), features="discriminator"))
    list(run)
    for figure in run.figures():
        assert figure.value is None and figure.n == 1 and "two pictures a side" in figure.warnings[0]


def test_sizes_greys_and_oblongs_are_told(noise, tmp_path):
    out = noise("out", "ab", grey=True)
    noise("out", "c", size=96, grey=True)
    refs = noise("refs", "xy")
    images.write(refs / "wide.png", RNG.integers(0, 255, (40, 80, 3), dtype=np.uint8))
    run = Evaluation(out, None, refs)
    list(run)
    told = " / ".join(run.warnings())
    assert "2 of 64 x 64, 1 of 96 x 96" in told and "3 of 3 results are grey, but 0 of 3 references" in told
    assert "1 references are no squares" in told


def test_a_shifted_result_is_reported_not_compared(photos, tmp_path, identity):
    (face,) = alignment.align(photos / "iu.jpeg", 256, aligner=identity.aligner)
    shifted = alignment.crop(images.read(photos / "iu.jpeg"), face.quad + (face.quad[3] - face.quad[0]) * 0.25, 256)
    images.write(tmp_path / "in" / "iu.png", face.image)
    images.write(tmp_path / "out" / "iu.png", shifted)
    (record,) = Evaluation(tmp_path / "out", tmp_path / "in", config=EvalConfig(aligned=True))
    assert record.error.type == "MisalignedPair" and "--align" in record.error.hint and not record.values
    assert evaluation.summary([record])["misaligned"] == 1
    run = Evaluation(tmp_path / "out", tmp_path / "in", config=EvalConfig(metrics=("ssim",), align=True))
    (framed,) = run
    assert framed.error is None and framed.values["ssim"] > 0.6


def test_aligned_and_align_contradict():
    with pytest.raises(ConfigError, match="contradict"):
        EvalConfig(aligned=True, align=True)


def test_no_face_in_a_result_is_counted_not_dropped(photos, tmp_path, identity):
    (face,) = alignment.align(photos / "iu.jpeg", 128, aligner=identity.aligner)
    images.write(tmp_path / "in" / "iu.png", face.image)
    images.write(tmp_path / "out" / "iu.png", np.full((128, 128, 3), 200, np.uint8))
    run = Evaluation(tmp_path / "out", tmp_path / "in",
                     config=EvalConfig(metrics=("identity", "landmarks"), aligned=True))
    (record,) = run
    likeness, landmarks = run.figures()
    assert not record.found and likeness.n == 1 and likeness.value > 0.3 and landmarks.missing == 1
    assert any("no face was found in 1 results" in told for told in likeness.warnings)
    assert landmarks.value is None and "1 have no face" in landmarks.warnings[0]


def test_a_second_run_takes_features_from_the_cache(noise, monkeypatch):
    out, refs = noise("out", "ab"), noise("refs", "xy", seed=2)
    config = EvalConfig(metrics=("kid",), features="discriminator")
    first = Evaluation(out, None, refs, config)
    list(first)
    again = Evaluation(out, None, refs, config)
    monkeypatch.setattr(type(again.tools.extractor), "__call__", lambda *_: pytest.fail("computed again"))
    list(again)
    assert again.figures() == first.figures()


def test_several_processes_find_what_one_finds(noise, monkeypatch):
    names = [f"{k:02}" for k in range(5)]
    folders = noise("out", names), noise("in", names[:4], seed=1), noise("refs", "xyz", seed=2)
    config = {"metrics": ("ssim", "identity", "lines", "copy", "fid"), "features": "discriminator", "aligned": True}
    one = Evaluation(*folders, EvalConfig(**config))
    expected = list(one)
    monkeypatch.setattr(evaluation, "PART", 2)
    two = Evaluation(*folders, EvalConfig(**config, workers=2))
    assert list(two) == expected and two.warnings() == one.warnings()
    for a, b in zip(two.figures(), one.figures()):
        assert (a.metric, a.n, a.missing, a.warnings) == (b.metric, b.n, b.missing, b.warnings)
        assert (a.value, a.low, a.high) == (pytest.approx(b.value), pytest.approx(b.low), pytest.approx(b.high))


def test_a_metric_of_a_class_within_a_function_is_measured_by_one_process(noise, monkeypatch):
    class Difference(metrics.PairMetric):
        name = "difference"

        def measure(self, sample):
            return float(abs(sample.image.astype(float) - sample.source).mean())

    monkeypatch.setattr(plugins, "load", lambda group, name: Difference)
    monkeypatch.setattr(evaluation, "PART", 1)
    folders = noise("out", "abc"), noise("in", "abc", seed=1)
    run = Evaluation(*folders, config=EvalConfig(metrics=("ssim",), workers=2, aligned=True))
    expected = [np.abs(images.read(folders[0] / f"{name}.png") - np.float64(images.read(folders[1] / f"{name}.png")))
                for name in "abc"]
    assert [record.values["difference"] for record in run] == pytest.approx([each.mean() for each in expected])


def test_workers_are_at_least_one():
    with pytest.raises(ConfigError, match="workers is 0"):
        EvalConfig(workers=0)
