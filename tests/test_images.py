from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image

from sigan import images
from sigan.errors import ConfigError, InputError, OutputError

RNG = np.random.default_rng(0)


def noise(height=8, width=12):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


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


def test_alpha_is_written_where_the_format_has_it_and_falls_on_white_where_not(tmp_path):
    image = np.dstack([np.full((8, 8, 3), 40, np.uint8), np.full((8, 8), 51, np.uint8)])
    for format, expected in (("png", (40, 51)), ("webp", (40, 51)), ("jpeg", (212, None))):
        images.write(tmp_path / format, image, format)
        picture = images.open_picture(tmp_path / format)
        assert abs(int(picture.pixels[4, 4, 0]) - expected[0]) <= 2
        assert (picture.alpha is None) == (expected[1] is None) and (picture.alpha is None or picture.alpha[4, 4] == 51)
