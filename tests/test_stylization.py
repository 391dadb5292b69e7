"""The stylizer on a tiny base: the picture is the pack's, whatever the batch; colours, strength and folders."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sigan import alignment, images, inversion, packs, pasting, stream, styles
from sigan.errors import ConfigError, PackError, UnknownStyleError
from sigan.stylization import StylizeConfig, Stylizer, keep_color, stylize_folder

CPU = {"device": "cpu"}


@pytest.fixture
def style(tiny_base, tiny_pack, tmp_path) -> str:
    path = tmp_path / "warm.safetensors"
    tiny_pack.save(path)
    return str(path)


def faces(base, count: int = 3) -> list[np.ndarray]:
    r = base.resolution
    return list(np.random.default_rng(1).integers(0, 255, (count, r, r, 3), np.uint8))


def by_hand(base, pack, face: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """The definition: invert with the base, draw with the base plus strength x the deltas."""
    ws = inversion.invert(base, images.to_batch([face]))
    generator = copy.deepcopy(base.generator)
    state = generator.state_dict()
    generator.load_state_dict({key: value + strength * pack.deltas[key].float() if key in pack.deltas else value
                               for key, value in state.items()})
    with torch.no_grad():
        y = generator.synthesis(ws)[0]
    return ((y + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal up to the rounding of sums in another order."""
    return np.abs(a.astype(int) - b.astype(int)).max() <= 1


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_the_portrait_is_the_inversion_drawn_by_the_pack(style, tiny_base, tiny_pack, strength):
    stylizer = Stylizer(style, StylizeConfig(strength=strength, **CPU))
    face = faces(tiny_base)[0]
    expected = by_hand(tiny_base, tiny_pack, face, strength)
    assert near(np.asarray(stylizer.stylize(face)), expected)
    if strength:
        assert not near(expected, by_hand(tiny_base, tiny_pack, face, 0.0))


def test_a_picture_does_not_depend_on_its_batch(style, tiny_base):
    stylizer = Stylizer(style, StylizeConfig(**CPU))
    every = faces(tiny_base)
    together, before = stylizer.arrays(every), torch.get_num_threads()
    try:
        for threads in (1, 3):  # to the byte, on a processor
            torch.set_num_threads(threads)
            assert all(np.array_equal(one, stylizer.arrays([face])[0]) for one, face in zip(together, every))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert stylizer.arrays([]) == []


def test_faces_of_another_size_are_resized(style, tiny_base):
    large = np.full((100, 100, 3), 200, np.uint8)
    small = images.resize(large, tiny_base.resolution)
    stylizer = Stylizer(style, StylizeConfig(**CPU))
    portrait = stylizer.stylize(large)
    assert portrait.size == (tiny_base.resolution,) * 2 and near(np.asarray(portrait), stylizer.arrays([small])[0])


def test_the_base_stays_as_it_was(style, tiny_base):
    before = {key: value.clone() for key, value in tiny_base.generator.state_dict().items()}
    Stylizer(style, StylizeConfig(**CPU)).stylize(faces(tiny_base)[0])
    assert all(torch.equal(before[key], value) for key, value in tiny_base.generator.state_dict().items())


def test_a_wrong_shape_is_refused_at_the_door(style, tiny_base):
    with pytest.raises(ConfigError, match=r"got \[1, 3, 5, 5\]"):
        Stylizer(style, StylizeConfig(**CPU)).batch(torch.zeros(1, 3, 5, 5))


def test_a_running_stylizer_changes_its_style(style, tiny_base, tiny_pack, tmp_path):
    """Back and forth, it draws what a new one would: nothing of an earlier style stays."""
    state = tiny_base.generator.state_dict()
    key = "synthesis.b4.conv1.weight"
    other = packs.StylePack(replace(tiny_pack.manifest, name="cold"), {key: 0.5 * torch.ones_like(state[key]).half()})
    face, running = faces(tiny_base)[0], Stylizer(style, StylizeConfig(**CPU))
    for wanted, amounts in ((other, {}), (style, {"strength": 0.5}), (other, {"strength": 1.0}), (style, {})):
        running.use(wanted, **amounts)
        fresh = Stylizer(wanted, replace(running.config))
        assert running.identity == fresh.identity and running.pack.hash == fresh.pack.hash
        assert near(np.asarray(running.stylize(face)), np.asarray(fresh.stylize(face)))
    assert not near(np.asarray(Stylizer(other, StylizeConfig(**CPU)).stylize(face)), np.asarray(running.stylize(face)))


def test_a_style_is_read_once(style, tmp_path, tiny_base):
    running = Stylizer(style, StylizeConfig(**CPU))
    Path(style).unlink()
    running.use(style, strength=0.5)
    with pytest.raises(ConfigError):
        Stylizer(style, StylizeConfig(**CPU))


def test_a_change_that_fails_changes_nothing(style, tiny_base, tiny_pack):
    running = Stylizer(style, StylizeConfig(**CPU))
    face, identity = faces(tiny_base)[0], running.identity
    before = np.asarray(running.stylize(face))
    foreign = replace(tiny_pack, manifest=replace(tiny_pack.manifest, base_hash="cd" * 32))
    for wanted, changes, error in ((foreign, {}, PackError), ("nowhere", {}, UnknownStyleError),
                                   (None, {"strength": 2.0}, ConfigError), (None, {"refine": 3}, ConfigError)):
        with pytest.raises(error):
            running.use(wanted, **changes)
    assert running.identity == identity and np.array_equal(np.asarray(running.stylize(face)), before)


@pytest.mark.parametrize("amount", ["structure", "color"])
def test_an_amount_is_drawn_and_told(style, tiny_base, amount):
    whole, part = (Stylizer(style, StylizeConfig(**{amount: value}, **CPU)) for value in (1.0, 0.0))
    face = faces(tiny_base)[0]
    changes = not near(np.asarray(whole.stylize(face)), np.asarray(part.stylize(face)))
    assert changes is (amount == "color")  # `tiny_pack` moves a toRGB alone
    assert whole.identity != part.identity
    with pytest.raises(ConfigError, match=f"{amount} is 1.5"):
        StylizeConfig(**{amount: 1.5})


def test_a_blend_lies_between_its_parts(style, tiny_base, tiny_pack, tmp_path):
    face = faces(tiny_base)[0]
    half = np.asarray(Stylizer(f"{style}:0.5", StylizeConfig(**CPU)).stylize(face))
    assert near(half, by_hand(tiny_base, tiny_pack, face, 0.5))


# ---- colours

def test_keep_color_takes_lightness_from_the_drawing_and_colour_from_the_photograph():
    drawing = torch.rand(1, 1, 64, 64).expand(1, 3, 64, 64) * 2 - 1  # grey
    photograph = torch.tensor([0.5, 0.0, -0.25]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    kept = (keep_color(drawing, photograph)[0].permute(1, 2, 0).numpy() + 1) / 2
    ours = np.asarray(Image.fromarray((kept.clip(0, 1) * 255).round().astype(np.uint8)).convert("YCbCr"))
    inside = (kept > 0).all(2) & (kept < 1).all(2)  # where nothing was clipped
    grey = ((drawing[0, 0].numpy() + 1) / 2 * 255).round()
    swatch = np.array([[[0.75, 0.5, 0.375]]]) * 255
    colour = np.asarray(Image.fromarray(swatch.round().astype(np.uint8)).convert("YCbCr"))[0, 0]
    assert inside.mean() > 0.3
    assert np.abs(ours[..., 0] - grey)[inside].max() <= 2
    assert np.abs(ours[..., 1:].astype(int) - colour[1:])[inside].max() <= 2


def test_keep_color_of_itself_keeps_flat_colours():
    x = torch.tensor([0.3, -0.2, 0.1]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    torch.testing.assert_close(keep_color(x, x), x)


# ---- what decides a picture

def test_the_identity_follows_pack_base_and_options(style, tiny_pack, tmp_path):
    def identity(name: str = style, **options) -> str:
        return Stylizer(name, StylizeConfig(**CPU, **options)).identity

    other = tmp_path / "other.safetensors"
    packs.blend([tiny_pack], [0.5]).save(other)
    changed = [identity(), identity(strength=0.5), identity(keep_color=True), identity(seed=1), identity(str(other))]
    assert len(set(changed)) == 5
    assert identity(batch_size=2) == identity()
    copied = tmp_path / "copy.safetensors"
    copied.write_bytes(Path(style).read_bytes())
    assert identity(str(copied)) == identity()


@pytest.mark.parametrize(("options", "said"), [
    ({"strength": 1.5}, "strength is 1.5"), ({"strength": float("nan")}, "strength is nan"),
    ({"refine": -1}, "refine is -1"), ({"batch_size": 0}, "batch_size is 0"), ({"faces": "most"}, "faces is 'most'"),
    ({"format": "gif"}, "format is 'gif'"),
])
def test_options_outside_their_range_are_named(options, said):
    with pytest.raises(ConfigError, match=said):
        StylizeConfig(**options)


def test_an_unknown_style_suggests_near_names(style):
    styles.install(style, "watercolor")
    with pytest.raises(UnknownStyleError, match="watercolour") as caught:
        Stylizer("watercolour", StylizeConfig(**CPU))
    assert "watercolor" in caught.value.hint


def test_a_pack_of_another_base_is_refused(tiny_pack, tmp_path):
    from dataclasses import replace

    path = tmp_path / "foreign.safetensors"
    manifest = replace(tiny_pack.manifest, base="huge", base_hash=hashlib.sha256(b"huge").hexdigest())
    packs.StylePack(manifest, tiny_pack.deltas).save(path)
    with pytest.raises(PackError, match="belongs to base 'huge'") as caught:
        Stylizer(str(path), StylizeConfig(**CPU))
    assert "--base huge" in caught.value.hint


# ---- folders

def test_a_folder_gives_what_single_faces_give(style, tiny_base, tmp_path):
    pictures = faces(tiny_base, 5)
    for k, picture in enumerate(pictures):
        images.write(tmp_path / f"in/{k}.png", picture)
    stylizer = Stylizer(style, StylizeConfig(aligned=True, batch_size=2, **CPU))
    items = stream.find_inputs(tmp_path / "in")
    records = list(stylize_folder(stylizer, items, tmp_path / "out"))
    assert [record.status for record in records] == ["ok"] * 5
    for k, picture in enumerate(pictures):
        assert near(images.read(tmp_path / f"out/{k}.png"), np.asarray(stylizer.stylize(picture)))
    again = list(stylize_folder(stylizer, items, tmp_path / "out"))
    assert [record.status for record in again] == ["skipped"] * 5


# ---- back into the picture

def group(path: Path, alpha: bool = False, **how) -> Path:
    """Two pretended faces side by side, with metadata if `how` says so."""
    pixels = np.random.default_rng(3).integers(0, 255, (96, 192, 4 if alpha else 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)
    return path


def pasted(style: str, source: Path, out: Path, **options):
    stylizer = Stylizer(style, StylizeConfig(paste_back=True, **options, **CPU))
    return list(stylize_folder(stylizer, stream.find_inputs(source), out))


def test_paste_back_is_paste_of_the_portraits(style, tiny_base, pretend_faces, tmp_path):
    path = group(tmp_path / "in.png")
    [record] = pasted(style, path, tmp_path / "out")
    found = alignment.align(path, tiny_base.resolution, "all")
    expected = pasting.paste(images.read(path), found, Stylizer(style, StylizeConfig(**CPU)).arrays(found))
    assert record.faces == 2 and near(images.read(tmp_path / "out/in.png"), expected)
    assert not near(expected, images.read(path))


def test_paste_back_keeps_alpha_and_metadata(style, pretend_faces, tmp_path):
    exif = Image.Exif()
    exif[0x013B] = "Anna"  # the artist
    path = group(tmp_path / "in.png", alpha=True, exif=exif, dpi=(300, 300))
    pasted(style, path, tmp_path / "out")
    with Image.open(path) as before, Image.open(tmp_path / "out/in.png") as after:
        assert after.mode == "RGBA" and np.array_equal(before.getchannel("A"), after.getchannel("A"))
        assert after.getexif()[0x013B] == "Anna" and after.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_paste_back_takes_everyone_unless_told(style, pretend_faces, tmp_path):
    assert StylizeConfig().faces == "largest" and StylizeConfig(paste_back=True).faces == "all"
    [record] = pasted(style, group(tmp_path / "in.png"), tmp_path / "out", faces="largest")
    assert record.faces == 1


def test_small_faces_stay_as_they_are_and_it_is_said(style, pretend_faces, tmp_path, monkeypatch):
    path = group(tmp_path / "in.png")
    sides = [face.side for face in alignment.align(path, 32, "all")]
    monkeypatch.setattr(pasting, "LEAST_SIDE", 1 + sides[0])
    wide = property(lambda face: sides[0] + (9 if face.quad[0, 0] > 90 else 0))
    monkeypatch.setattr(alignment.AlignedFace, "side", wide)
    [record] = pasted(style, path, tmp_path / "out")
    assert record.faces == 1 and [note for note in record.notes if "1 of 2 faces left as they are" in note]
    changed = (images.read(path) != images.read(tmp_path / "out/in.png")).any(2)
    assert changed[:, 120:].any() and not changed[:, :90].any()
    monkeypatch.setattr(pasting, "LEAST_SIDE", 1000)
    [record] = pasted(style, path, tmp_path / "none")
    assert record.status == "failed" and "2 faces, each framed by fewer than 1000 pixels" in record.error.message


def test_an_input_that_vanishes_before_it_is_written_is_one_failure(style, pretend_faces, tmp_path, monkeypatch):
    group(tmp_path / "in/a.png"), group(tmp_path / "in/b.png")
    arrays = Stylizer.arrays

    def vanish(self, faces):
        (tmp_path / "in/a.png").unlink(missing_ok=True)
        return arrays(self, faces)

    monkeypatch.setattr(Stylizer, "arrays", vanish)
    first, second = pasted(style, tmp_path / "in", tmp_path / "out")
    assert (first.status, second.status) == ("failed", "ok") and "a.png: no such file" in first.error.message


def test_paste_back_decides_a_picture(style):
    assert (Stylizer(style, StylizeConfig(paste_back=True, **CPU)).identity
            != Stylizer(style, StylizeConfig(faces="all", **CPU)).identity)
