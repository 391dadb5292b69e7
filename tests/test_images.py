from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from sigan import images, pictures
from sigan.errors import ConfigError, InputError, OutputError, UnreadableImageError

RNG = np.random.default_rng(0)


def noise(height=8, width=12):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def saved(tmp_path, img, name="a.png", **options):
    img.save(tmp_path / name, **options)
    return images.read(tmp_path / name)


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    image = noise()
    assert np.array_equal(saved(tmp_path, Image.fromarray(image), exif=exif), np.rot90(image, -1))


def test_alpha_falls_on_white(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = 10, 20, 30, 255
    pixels[0, 1] = 0, 0, 0, 51
    image = saved(tmp_path, Image.fromarray(pixels))
    assert image[0].tolist() == [[10, 20, 30], [204] * 3] and image[1].tolist() == [[255] * 3] * 2


def test_palette_with_a_transparent_entry(tmp_path):
    img = Image.new("P", (2, 1))
    img.putpalette([1, 2, 3, 4, 5, 6])
    img.putdata([0, 1])
    assert saved(tmp_path, img, transparency=1)[0].tolist() == [[1, 2, 3], [255, 255, 255]]


@pytest.mark.parametrize(("mode", "name"), [("1", "a.png"), ("L", "a.png"), ("LA", "a.png"), ("P", "a.gif"),
                                            ("CMYK", "a.jpg"), ("YCbCr", "a.jpg"), ("CMYK", "a.tif"), ("F", "a.tif")])
def test_every_mode_becomes_rgb(tmp_path, mode, name):
    image = saved(tmp_path, Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode), name)
    assert image.shape == (4, 6, 3) and image.dtype == np.uint8 and image.min() >= 252


def test_sixteen_bit_grey(tmp_path):
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    assert saved(tmp_path, Image.fromarray(values))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    image = saved(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert image[0, 0].tolist() == [255, 0, 0]


def test_a_colour_profile_is_followed_and_a_broken_one_ignored(tmp_path):
    image = np.full((2, 2, 3), (50, 100, 150), np.uint8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = bytearray(srgb.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be")))
    # red and blue primaries change places, under another name
    red, blue = swapped.find(b"rXYZ"), swapped.find(b"bXYZ")
    swapped[red:red + 1], swapped[blue:blue + 1] = b"b", b"r"
    followed = saved(tmp_path, Image.fromarray(image), icc_profile=bytes(swapped))[0, 0]
    assert np.abs(followed.astype(int) - (150, 100, 50)).max() <= 2
    for harmless in (srgb, b"nonsense"):
        assert saved(tmp_path, Image.fromarray(image), icc_profile=harmless)[0, 0].tolist() == [50, 100, 150]


def broken(kind, path):
    if kind == "text":
        path.write_text("not a picture")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind == "truncated":
        Image.fromarray(noise(200, 200)).save(path)
        path.write_bytes(path.read_bytes()[:9000])
    return path


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "folder", "truncated"])
def test_what_cannot_be_read_is_named_with_a_remedy(tmp_path, kind):
    path = broken(kind, tmp_path / f"{kind}.png")
    with pytest.raises(UnreadableImageError) as caught:
        images.read(path)
    assert str(path) in caught.value.message and caught.value.hint


def test_bombs_are_refused(tmp_path, monkeypatch):
    Image.fromarray(noise()).save(tmp_path / "a.png")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 95)
    with pytest.raises(UnreadableImageError, match="12 x 8 pixels"):
        images.read(tmp_path / "a.png")


def test_batch_and_back_is_the_identity():
    faces = [np.arange(192, dtype=np.uint8).reshape(8, 8, 3), noise(8, 8)]
    x = images.to_batch(faces)
    assert x.shape == (2, 3, 8, 8) and x.dtype == torch.float32 and x.is_contiguous()
    assert x[1, 2, 3, 4] == pytest.approx(faces[1][3, 4, 2] / 127.5 - 1, abs=1e-6)
    assert all(np.array_equal(a, b) for a, b in zip(images.from_batch(x), faces, strict=True))
    assert images.from_batch(torch.full((1, 3, 2, 2), 9.0))[0].min() == 255


@pytest.mark.parametrize("faces", [[], [noise(8, 12)], [noise(8, 8), noise(4, 4)], [noise(8, 8) / 255]])
def test_a_batch_of_unlike_faces_is_refused(faces):
    with pytest.raises(InputError, match="one size"):
        images.to_batch(faces)


def test_from_batch_names_the_shape_it_got():
    with pytest.raises(InputError, match=r"\[2, 8, 8\]"):
        images.from_batch(torch.zeros(2, 8, 8))


def test_resize_averages_when_it_shrinks():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(images.resize(stripes, 16)[4:-4, 4:-4].astype(int) - 127).max() <= 2


@pytest.mark.parametrize(("format", "slack"), [("png", 0), ("jpeg", 12), ("webp", 12)])
def test_write_and_read(tmp_path, format, slack):
    image = np.array(Image.fromarray(noise(4, 4)).resize((32, 32), Image.Resampling.BICUBIC))
    images.write(tmp_path / "new" / "a.out", image, format)
    assert np.abs(images.read(tmp_path / "new" / "a.out").astype(int) - image).mean() <= slack
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.out"]
    with Image.open(tmp_path / "new" / "a.out") as img:
        assert img.format.lower() == format


def test_an_unknown_format_is_named(tmp_path):
    with pytest.raises(ConfigError, match="'tga'"):
        images.write(tmp_path / "a.tga", noise(), "tga")


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    images.atomic_write(tmp_path / "a", b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="No space left") as caught:
        images.atomic_write(tmp_path / "a", b"new")
    assert caught.value.hint and (tmp_path / "a").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_a_destination_under_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="b.png"):
        images.write(tmp_path / "file" / "b.png", noise())


def test_contact_sheet_places_each_picture():
    red, blue = (np.full((8, 8, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    sheet = images.contact_sheet([[red, blue], [None, red]], cell=8)
    assert sheet.shape == (28, 28, 3)
    assert sheet[8, 8].tolist() == [255, 0, 0] and sheet[8, 20].tolist() == [0, 0, 255]
    assert sheet[20, 8].tolist() == [255, 255, 255] and sheet[20, 20].tolist() == [255, 0, 0]
    assert images.contact_sheet([[red], [blue]], labels=["a", "b"], cell=8).shape[1] > 100


def test_what_decodes_does(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    png = images.encode(picture)
    assert images.decodes(png, ["png", "webp"]) and images.decodes(images.encode(picture, "webp"), ["png", "webp"])
    assert not images.decodes(png, ["webp"]) and not images.decodes(images.encode(picture, "jpeg"), ["png", "webp"])
    assert not images.decodes(png[:-600], ["png"]) and not images.decodes(b"", ["png"])
