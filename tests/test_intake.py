"""Foreign files become bases, packs, codes: tiny checkpoints in the layouts of other programs, used to the end."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re

import foreign
import pytest
import torch
from loopback import QUOTA_PAGE

from sigan import bases, downloads, intake, inversion, losses, styles, training
from sigan.errors import ConfigError, OutputError, WeightsError
from sigan.nets.compact_encoder import CompactEncoder, EncoderConfig
from sigan.stylization import StylizeConfig, Stylizer


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_two_files_make_a_whole_base(files, nets):
    [made] = intake.import_files([files / "e4e.pt", files / "gan.pt"], "tiny")
    assert (made.kind, made.name, made.parts, made.notes) == ("base", "tiny", bases.NETS, ())
    base = bases.load("tiny")
    ws, x = torch.randn(2, 8, 24), torch.rand(2, 3, 32, 32) * 2 - 1
    for ours, theirs in ((base.generator.synthesis(ws), nets[0].synthesis(ws)), (base.encoder(x), nets[2](x)),
                         (base.discriminator(x), nets[1](x))):
        assert (ours - theirs).norm() < 1e-4 * theirs.norm()  # random nets: values of a thousand
    assert base.hash == sha256(made.path / "generator.safetensors")
    assert base.alignment["frame"] == "ffhq" and "NVIDIA" in base.licence
    record = json.loads((made.path / "base.json").read_text())
    assert {source["file"]: source["sha256"] for source in record["sources"]} == {
        name: sha256(files / name) for name in ("e4e.pt", "gan.pt")}


def test_facts_are_those_of_the_loaded_base(files):
    intake.import_files([files / "gan.pt", files / "e4e.pt"], "tiny", licence="CC0-1.0")
    base, facts = bases.load("tiny"), bases.facts("tiny")
    assert (facts.resolution, facts.num_ws, facts.w_dim, facts.hash, facts.licence) == (
        base.resolution, base.num_ws, base.w_dim, base.hash, base.licence) == (32, 8, 24, base.hash, "CC0-1.0")
    assert facts.values == {part: sum(v.numel() for v in getattr(base, part).state_dict().values())
                            for part in bases.NETS}
    assert bases.names()[-1] == "tiny" and facts.origin == "home" and facts.encoder == "e4e"


def test_parts_come_one_after_the_other(files):
    [first] = intake.import_files([files / "plain.pt"], "tiny")
    assert first.parts == ("generator",) and len(first.notes) == 2
    before = bases.load("tiny").hash
    with pytest.raises(WeightsError, match="base 'tiny' has no encoder") as caught:
        bases.load("tiny").encoder(torch.zeros(1, 3, 32, 32), 1.0)
    assert "import" in caught.value.hint
    assert intake.import_files([files / "e4e.pt"], "tiny")[0].parts == ("generator", "encoder")
    assert intake.import_files([files / "gan.pt"], "tiny")[0].parts == bases.NETS
    assert bases.load("tiny").hash == before
    assert len(bases.record(bases.find("tiny"))["sources"]) == 3


def test_another_generator_is_not_slipped_in(files, tmp_path):
    intake.import_files([files / "gan.pt"], "tiny")
    before = bases.load("tiny").hash
    other = foreign.generator(seed=9).state_dict()
    torch.save({"g_ema": foreign.rosinality_generator(other), "latent_avg": other["mapping.w_avg"]},
               tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="with another generator"):
        intake.import_files([tmp_path / "other.pt"], "tiny")
    with pytest.raises(WeightsError, match="belongs to another generator than that of other.pt"):
        intake.import_files([tmp_path / "other.pt", files / "e4e.pt"], "mixed")
    assert "mixed" not in bases.names() and bases.load("tiny").hash == before
    [made] = intake.import_files([tmp_path / "other.pt"], "tiny", overwrite=True)
    assert made.parts == ("generator",) and bases.load("tiny").hash != before


@pytest.mark.parametrize(("apart", "accepted"), [(1e-5, True), (0.01, True), (0.3, False)])
def test_a_decoder_near_the_generator_is_accepted_and_told(files, nets, apart, accepted):
    g, _, e = (net.state_dict() for net in nets)
    draw = torch.Generator().manual_seed(3)
    decoder = {key: value + apart * value.std() * torch.randn(value.shape, generator=draw) if value.ndim > 1 else value
               for key, value in g.items()}
    torch.save(foreign.e4e(e, decoder), files / "e4e.pt")
    if not accepted:
        with pytest.raises(WeightsError, match="belongs to another generator"):
            intake.import_files([files / "e4e.pt", files / "gan.pt"], "tiny")
        return
    [made] = intake.import_files([files / "e4e.pt", files / "gan.pt"], "tiny")
    told = re.compile(r"e4e.pt was trained on a generator 0\.[3-9]% apart from that of gan.pt, which is taken")
    assert len(made.notes) == (apart > intake.SAME) and all(told.match(note) for note in made.notes)
    assert torch.equal(bases.load("tiny").generator.synthesis.b4.const, g["synthesis.b4.const"])
    intake.import_files([files / "plain.pt"], "second")
    [later] = intake.import_files([files / "e4e.pt"], "second")
    assert len(later.notes) == (apart > intake.SAME) + 1  # and that it has no discriminator
    assert torch.equal(bases.load("second").generator.synthesis.b4.const, g["synthesis.b4.const"])


def test_a_generator_without_a_mean_code_gets_that_of_e4e(files, nets):
    g, _, e = (net.state_dict() for net in nets)
    torch.save({"g_ema": foreign.rosinality_generator(g)}, files / "bare.pt")
    [alone] = intake.import_files([files / "bare.pt"], "alone")
    assert "bare.pt has no mean code: it was drawn" in alone.notes
    [made] = intake.import_files([files / "bare.pt", files / "e4e.pt"], "tiny")
    assert "bare.pt has no mean code: it is that of e4e.pt" in made.notes
    mean = bases.load("tiny").generator.mapping.w_avg
    torch.testing.assert_close(mean, e["w_avg"][0])
    assert (bases.load("alone").generator.mapping.w_avg - mean).norm() > 0.1 * mean.norm()


def test_what_a_file_does_not_say_is_told(files, nets):
    torch.save(dict(nets[0].state_dict()), files / "bare.pt")  # NVIDIA's names without its modules
    [made] = intake.import_files([files / "bare.pt"], "tiny")
    assert any("conv_clamp" in note for note in made.notes)


def test_an_encoder_is_what_its_file_says(files, nets, tmp_path):
    """sigan's own two kinds are told apart by their names, not by their sizes."""
    config = EncoderConfig(resolution=32, num_ws=8, w_dim=24, luma=10, canvas_resolution=16, width=8)
    bases.write_net(CompactEncoder(config), tmp_path / "own.safetensors", "CC0-1.0")
    intake.import_files([files / "plain.pt", tmp_path / "own.safetensors"], "tiny")
    assert isinstance(bases.load("tiny").encoder, CompactEncoder) and bases.facts("tiny").encoder == "encoder"
    bases.write_net(nets[2], tmp_path / "theirs.safetensors", "CC0-1.0")
    intake.import_files([files / "plain.pt", tmp_path / "theirs.safetensors"], "other")
    assert bases.facts("other").encoder == "e4e"


def test_names_are_checked_first(files):
    for name, message in (("../x", "cannot be a name"), ("mini", "comes with a package")):
        with pytest.raises(ConfigError, match=message):
            intake.import_files([files / "gan.pt"], name)
    assert intake.import_files([files / "gan.pt"])[0].name == "gan"


@pytest.mark.parametrize(("content", "message"), [
    (QUOTA_PAGE, "web page"), (b"", "empty"), (b"PK\x03\x04" + bytes(200), "."), (b"hello there, " * 99, ".")])
def test_what_is_no_checkpoint_is_refused(tmp_path, content, message):
    (tmp_path / "ffhq.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        intake.import_files([tmp_path / "ffhq.pt"], "ffhq")
    assert list(bases.home().glob("*")) == []


def test_a_truncated_checkpoint_leaves_nothing(files):
    (files / "half.pt").write_bytes((files / "gan.pt").read_bytes()[:-5000])
    with pytest.raises(WeightsError, match="half.pt"):
        intake.import_files([files / "half.pt"], "half")
    with pytest.raises(WeightsError, match="cannot read"):
        intake.import_files([files / "gone.pt"], "half")
    assert list(bases.home().glob("*")) == []


def test_a_failure_while_writing_keeps_the_old_base(files, monkeypatch):
    intake.import_files([files / "plain.pt"], "tiny")
    before = sorted(path.name for path in bases.find("tiny").iterdir())

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads, "sha256", lambda path: full(path) if ".part" in str(path) else sha256(path))
    with pytest.raises(Exception, match="no space left"):
        intake.import_files([files / "e4e.pt"], "tiny")
    assert sorted(path.name for path in bases.find("tiny").iterdir()) == before
    assert [p.name for p in bases.home().iterdir() if p.is_dir()] == ["tiny"]


def test_a_disk_that_is_full_is_named_and_leaves_nothing(files):
    """A real refusal of the system, by way of safetensors' writer."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OutputError, match="tiny: cannot be written .File too large") as caught:
            intake.import_files([files / "plain.pt"], "tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "SIGAN_HOME" in caught.value.hint and not [path for path in bases.home().iterdir() if path.is_dir()]


def test_a_home_where_nothing_can_be_written_is_named(files, monkeypatch):
    monkeypatch.setenv("SIGAN_HOME", str(files / "plain.pt" / "home"))
    with pytest.raises(OutputError, match="cannot be written"):
        intake.import_files([files / "plain.pt"], "tiny")


def test_others_may_read_a_base_as_far_as_the_umask_lets_them(files):
    before = os.umask(0o027)
    try:
        [made] = intake.import_files([files / "gan.pt"], "tiny")
    finally:
        os.umask(before)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in made.path.iterdir()} == dict.fromkeys(
        ("base.json", "generator.safetensors", "discriminator.safetensors"), "0o640")


def test_another_size_is_not_taken_for_the_published_base(files):
    with pytest.raises(WeightsError, match="gan.pt is of 32², and 'ffhq' is the base of 1024²"):
        intake.import_files([files / "gan.pt", files / "e4e.pt"], "ffhq")
    assert "ffhq" not in bases.names()


def test_verify_tells_every_file_that_changed(files):
    intake.import_files([files / "gan.pt", files / "e4e.pt"], "tiny")
    assert bases.verify("tiny")["generator"] == bases.load("tiny").hash
    folder = bases.find("tiny")
    for part in ("encoder", "discriminator"):
        content = bytearray((folder / f"{part}.safetensors").read_bytes())
        content[-9] ^= 1
        (folder / f"{part}.safetensors").write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        bases.verify("tiny")
    assert "encoder.safetensors is corrupt" in caught.value.message and "discriminator" in caught.value.message
    assert "generator.safetensors" not in caught.value.message


def test_a_generator_swapped_for_another_is_noticed_at_loading(files):
    intake.import_files([files / "gan.pt"], "tiny")
    path = bases.find("tiny") / "generator.safetensors"
    content = bytearray(path.read_bytes())
    path.write_bytes(content)  # the same, with another time of change
    assert bases.load("tiny").hash == sha256(path)
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is not the file that was imported"):
        bases.load("tiny")


def test_everything_works_on_an_imported_base(files):
    """Import, invert, train, stylize, sample: no step knows that the base is foreign."""
    intake.import_files([files / "gan.pt", files / "e4e.pt"], "tiny", licence="for research only")
    base = bases.load("tiny")
    with torch.no_grad():
        x = base.generator.synthesis(base.sample(3, seed=1)).clamp(-1, 1)
    assert inversion.invert(base, x, refine=1).shape == (3, base.num_ws, base.w_dim)
    faithful, plausible = inversion.invert(base, x), inversion.invert(base, x, in_domain=True)
    assert not torch.allclose(faithful, plausible) and torch.equal(plausible[:, 0], plausible[:, 5])
    pictures = [(255 * torch.rand(32, 32, 3)).byte().numpy() for _ in range(2)]
    trainer = training.StyleTrainer(pictures, training.TrainConfig(steps=1, measure=0, device="cpu"), base=base)
    assert len(list(trainer.steps())) == 1
    pack = trainer.pack("rough")
    assert pack.manifest.licence == "for research only" and pack.manifest.base_hash == base.hash
    path = files / "rough.safetensors"
    pack.save(path)
    drawn = Stylizer(str(path), StylizeConfig(base="tiny", device="cpu")).arrays(pictures)
    assert [picture.shape for picture in drawn] == [(32, 32, 3)] * 2


def test_training_without_a_discriminator_says_what_it_needs(files):
    intake.import_files([files / "e4e.pt"], "tiny")
    base = bases.load("tiny")
    assert base.discriminator is None
    with pytest.raises(WeightsError, match="no discriminator") as caught:
        losses.best(base.discriminator)
    assert "lpips-vgg" in caught.value.hint


def test_a_jojogan_style_becomes_a_pack(files, nets, tmp_path):
    intake.import_files([files / "gan.pt", files / "e4e.pt"], "tiny")
    g = nets[0].state_dict()
    tuned = {key: value + 0.1 if "torgb.bias" in key else value for key, value in g.items()}
    torch.save({"g": foreign.rosinality_generator(tuned)}, tmp_path / "sketch.pt")
    with pytest.raises(ConfigError, match="is a style checkpoint"):
        intake.import_files([tmp_path / "sketch.pt"])
    [made] = intake.import_files([tmp_path / "sketch.pt"], style="sketch", base="tiny")
    assert made.kind == "style" and styles.find("sketch").path == made.path
    base, ws = bases.load("tiny"), torch.randn(1, 8, 24)
    with styles.load("sketch").apply(base.generator) as generator:
        drawn = generator.synthesis(ws)
    nets[0].load_state_dict(tuned)
    torch.testing.assert_close(drawn, nets[0].synthesis(ws), atol=2e-3, rtol=1e-3)  # packs are fp16
    strange = foreign.generator(seed=9).state_dict()
    torch.save({"g": foreign.rosinality_generator(strange)}, tmp_path / "strange.pt")
    with pytest.raises(WeightsError, match="mapping networks differ"):
        intake.import_files([tmp_path / "strange.pt"], style="strange", base="tiny")


@pytest.mark.parametrize("shape", [(8, 24), (1, 8, 24)])
def test_codes_are_kept_as_invert_writes_them(tmp_path, shape):
    from safetensors.torch import load_file

    codes = torch.randn(shape)
    torch.save({"latent": codes}, tmp_path / "anna.pt")
    [made] = intake.import_files([tmp_path / "anna.pt"])
    assert made.kind == "codes" and torch.equal(load_file(made.path)["ws"], codes.reshape(1, 8, 24))


def _import(path, name, home):
    import os

    os.environ["SIGAN_HOME"] = home
    intake.import_files([path], name)


def test_two_processes_importing_at_once(files, tmp_path):
    home = str(tmp_path / "shared-home")
    context = multiprocessing.get_context("spawn")
    works = [context.Process(target=_import, args=(files / file, "tiny", home)) for file in ("gan.pt", "e4e.pt")]
    for work in works:
        work.start()
    for work in works:
        work.join(120)
    assert [work.exitcode for work in works] == [0, 0]
    record = json.loads((tmp_path / "shared-home" / "bases" / "tiny" / "base.json").read_text())
    assert set(record["files"]) == set(bases.NETS)
