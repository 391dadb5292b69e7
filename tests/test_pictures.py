"""Files to pixels: against Pillow's own conversions, slow means of blocks, and files written by hand."""

from __future__ import annotations

import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, features

from sigan import images, pictures
from sigan.errors import UnreadableImageError
from sigan.pictures import Source, open_picture

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


def test_sixteen_bit_grey_becomes_eight(tmp_path):
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


# ---- what people have

def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by its specification, of rows that have their filter byte."""
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def tiff16(values: np.ndarray) -> bytes:
    """A TIFF of uint16 [H,W,3], written by its specification."""
    height, width, _ = values.shape
    data = values.astype("<u2").tobytes()
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 14),
            (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(data))]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    at = 14 + len(data)
    return (b"II*\0" + struct.pack("<I", at) + struct.pack("<HHH", 16, 16, 16) + data
            + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0))


def test_sixteen_bits_of_colour_become_eight(tmp_path):
    values = RNG.integers(0, 65536, (5, 7, 3))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    (tmp_path / "a.png").write_bytes(png(7, 5, 16, 2, rows))
    (tmp_path / "a.tif").write_bytes(tiff16(values))
    for name in ("a.png", "a.tif"):
        assert np.abs(images.read(tmp_path / name) - values / 257).max() <= 1, name


def test_cmyk_lab_and_grey_with_alpha_keep_their_colours(tmp_path):
    cmyk = saved(tmp_path, Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "a.tif")
    lab = saved(tmp_path, Image.new("LAB", (4, 4), (136, 208, 195)), "b.tif")  # L 53, a 80, b 67: sRGB's red
    assert np.abs(cmyk.astype(int) - (255, 0, 0)).max() <= 2 and np.abs(lab.astype(int) - (255, 0, 0)).max() <= 12
    Image.new("LA", (4, 4), (90, 51)).save(tmp_path / "c.png")
    picture = open_picture(tmp_path / "c.png")
    assert (picture.pixels == 90).all() and (picture.alpha == 51).all() and (picture.over_white == 222).all()


def test_a_palette_follows_its_profile_as_true_colour_does(tmp_path):
    wide = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(
        "sRGB".encode("utf-16-be"), "wide".encode("utf-16-be"))
    red = wide.find(b"rXYZ"), wide.find(b"bXYZ")
    wide = bytearray(wide)
    wide[red[0]:red[0] + 1], wide[red[1]:red[1] + 1] = b"b", b"r"
    img = Image.fromarray(noise(6, 6)).quantize(8)
    indexed = saved(tmp_path, img, "p.png", icc_profile=bytes(wide))
    assert np.array_equal(indexed, saved(tmp_path, img.convert("RGB"), "rgb.png", icc_profile=bytes(wide)))
    assert not np.array_equal(indexed, np.array(img.convert("RGB")))


@pytest.mark.parametrize("format", ["webp", "avif", "heif", "jpeg2000", "ppm", "bmp"])
def test_other_formats_give_their_picture(tmp_path, format):
    if format == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    if format == "heif":
        reason = "pillow-heif is absent: pip install 'sigan[heic]'"
        pytest.importorskip("pillow_heif", reason=reason).register_heif_opener()
    smooth = np.array(Image.fromarray(noise(4, 6)).resize((60, 40), Image.Resampling.BICUBIC))
    Image.fromarray(smooth).save(tmp_path / "a.bin", format)
    read = images.read(tmp_path / "a.bin")
    assert read.shape == smooth.shape and np.abs(read.astype(int) - smooth).mean() < 12


def test_a_heic_without_its_package_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(struct.pack(">I4s4s", 24, b"ftyp", b"heic") + b"\0\0\0\0mif1heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnreadableImageError, match="a.heic: a HEIC picture") as caught:
        images.read(tmp_path / "a.heic")
    assert "sigan[heic]" in caught.value.hint


@pytest.mark.parametrize(("name", "note"), [("a.gif", "the first frame of 3"), ("a.webp", "the first frame of 3"),
                                            ("a.png", "the first frame of 3"), ("a.tif", "the first page of 3")])
def test_the_first_of_several_frames_is_taken_and_said(tmp_path, name, note):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    picture = open_picture(tmp_path / name)
    assert picture.notes == (note,) and np.abs(picture.pixels.astype(int) - (255, 0, 0)).max() < 4
    frames[0].save(tmp_path / name)
    assert open_picture(tmp_path / name).notes == ()


def test_the_second_picture_in_a_phones_jpeg_is_not_told(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.fromarray(noise())])
    assert open_picture(tmp_path / "a.jpg").notes == ()


def test_alpha_is_kept_beside_the_colours_under_it(tmp_path):
    pixels = RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = open_picture(tmp_path / "a.png")
    assert np.array_equal(np.dstack([picture.pixels, picture.alpha]), pixels)
    share = pixels[..., 3:] / 255
    assert np.abs(picture.over_white - (pixels[..., :3] * share + 255 * (1 - share))).max() <= 1
    assert np.array_equal(picture.over_white, Source(tmp_path / "a.png").part()[0])
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png").alpha is None


# ---- parts

def expected(image: np.ndarray, origin, shape, factor) -> np.ndarray:
    """The mean of each block of factor x factor pixels, as far as the picture has them, one by one."""
    out = np.empty((*shape[:2], 3))
    for i in range(shape[0]):
        for j in range(shape[1]):
            y, x = origin[1] + i * factor, origin[0] + j * factor
            out[i, j] = image[max(y, 0):max(y + factor, 0), max(x, 0):max(x + factor, 0)].mean((0, 1))
    return out


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("box", "factor"), [(None, 1), (None, 4), ((3, 2, 9.5, 7), 1), ((6, 5, 17, 14), 2),
                                             ((-9, -9, 99, 4), 3), ((20, 15, 40, 40), 8)])
def test_a_part_is_the_means_of_blocks_of_the_upright_picture(tmp_path, monkeypatch, orientation, box, factor):
    monkeypatch.setattr(pictures, "BAND", 40)  # many bands
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise(17, 23)).save(tmp_path / "a.png", exif=exif)
    source, image = Source(tmp_path / "a.png"), images.read(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as img:
        assert np.array_equal(image, np.array(ImageOps.exif_transpose(img)))
    assert source.size == image.shape[1::-1]
    part, origin = source.part(box, factor)
    assert np.abs(part - expected(image, origin, part.shape, factor)).max() <= 1
    low, high = origin, origin + np.array(part.shape[1::-1]) * factor
    wanted = np.array(box or (0, 0, *source.size)).reshape(2, 2).clip(0, source.size)
    assert (low <= wanted[0]).all() and (high >= wanted[1]).all()
    assert (high - low <= wanted[1] - wanted[0] + 2 * factor).all() and (low > -factor).all()


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_a_jpeg_decoded_smaller_is_the_same_picture_in_the_same_place(tmp_path, orientation, factor):
    y, x = np.mgrid[:203, :317]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = np.uint8(np.stack([x * 0.7, y, 128 + 60 * np.sin(x / 40) * np.cos(y / 30)], 2))
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=98, subsampling=0, exif=exif)
    part, origin = Source(tmp_path / "a.jpg").part(None, factor)
    whole = expected(images.read(tmp_path / "a.jpg"), origin, part.shape, factor)
    assert np.abs(part - whole)[1:-1, 1:-1].max() <= 3


def test_no_more_of_a_jpeg_is_decoded_than_asked_for(tmp_path):
    Image.fromarray(noise(640, 800)).save(tmp_path / "a.jpg")
    source, sizes = Source(tmp_path / "a.jpg"), []
    for factor in (8, 16, 4, 8, 1, 2):
        source.part((0, 0, 80, 80), factor)
        sizes.append(source._img.size)
    assert sizes == [(100, 80), (100, 80), (200, 160), (200, 160), (800, 640), (800, 640)]


def test_a_part_of_an_array_is_a_view_of_it():
    image = noise(20, 30)
    part, origin = Source(image).part((4, 5, 9, 11))
    assert np.shares_memory(part, image) and np.array_equal(part, image[5:11, 4:9]) and origin.tolist() == [4, 5]
    assert np.abs(Source(image).part(None, 2)[0] - image.reshape(10, 2, 15, 2, 3).mean((1, 3))).max() <= 1


# ---- what is refused

@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff", "gif", "bmp", "avif", "ppm"])
def test_a_truncated_file_is_refused_whole_or_in_part(tmp_path, format):
    if format == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / "a.bin"
    Image.fromarray(noise(160, 200)).save(path, format)
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(content[:int(len(content) * share)])
        for decode in (open_picture, lambda path: Source(path).part(None, 4)):
            with pytest.raises(UnreadableImageError, match="a.bin") as caught:
                decode(path)
            assert caught.value.hint


def test_a_bomb_is_refused_by_its_header_and_a_large_scan_is_not_warned_of(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(60_000, 60_000, 8, 2, b""))
    (tmp_path / "large.png").write_bytes(png(12_000, 10_000, 8, 2, b""))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnreadableImageError, match="too large to open safely") as caught:
            Source(tmp_path / "bomb.png")
        assert "megapixels" in caught.value.hint
        assert Source(tmp_path / "large.png").size == (12_000, 10_000)


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n", b"<svg></svg>",
                                     b"#define a_width 9\n#define a_height 9\n"])
def test_what_only_pretends_to_be_a_picture_runs_nothing(tmp_path, monkeypatch, content):
    """Pillow would hand PostScript to another program."""
    monkeypatch.setattr(subprocess, "Popen", None)
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UnreadableImageError, match="not a known picture format"):
        images.read(tmp_path / "a.jpg")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    Image.fromarray(noise(64, 64)).save(tmp_path / "a.jpg")
    source = Source(tmp_path / "a.jpg")
    source.part(None, 8)
    Image.fromarray(noise(32, 64)).save(tmp_path / "a.jpg")
    with pytest.raises(UnreadableImageError, match="it changed"):
        source.part(None, 1)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(UnreadableImageError, match="no such file"):
        source.part(None, 1)


def test_what_decodes_does(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    png = images.encode(picture)
    assert images.decodes(png, ["png", "webp"]) and images.decodes(images.encode(picture, "webp"), ["png", "webp"])
    assert not images.decodes(png, ["webp"]) and not images.decodes(images.encode(picture, "jpeg"), ["png", "webp"])
    assert not images.decodes(png[:-600], ["png"]) and not images.decodes(b"", ["png"])
