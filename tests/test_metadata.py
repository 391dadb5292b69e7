"""What goes on of a picture's metadata: read back by Pillow, and the EXIF block by a walk of its directories."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from sigan import images, metadata, pictures
from sigan.metadata import Metadata

ORIENTATION, MAKE, ARTIST, BITS, THUMBNAIL = 0x0112, 0x010F, 0x013B, 0x0102, 0x0201
EXIF, GPS, MAKER_NOTE, DATE, WIDTH, HEIGHT, SPACE = 0x8769, 0x8825, 0x927C, 0x9003, 0xA002, 0xA003, 0xA001
XMP = (b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
       b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
       b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
       b' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"'
       b' xmp:Rating="4" tiff:Orientation="6" crs:Exposure="1">'
       b'<dc:creator><rdf:Seq><rdf:li>\xc3\x85sa</rdf:li></rdf:Seq>'
       b'</dc:creator><xmp:Thumbnails>old</xmp:Thumbnails></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>')


def block(**more) -> Image.Exif:
    """EXIF as a camera writes it."""
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE], exif[ARTIST], exif[BITS] = 6, "ACME", "Ann", 8
    exif.get_ifd(EXIF).update({DATE: "2020:01:02 03:04:05", WIDTH: 12, HEIGHT: 8, MAKER_NOTE: b"secret" * 9,
                               SPACE: 65535, **more})
    exif.get_ifd(GPS).update({1: "N", 2: (59.0, 20.0, 1.0)})
    return exif


def with_thumbnail(exif: Image.Exif) -> bytes:
    """The block with a second directory, as cameras add one for the thumbnail."""
    data = bytearray(exif.tobytes()[6:])
    order = "<" if data[:2] == b"II" else ">"
    first = struct.unpack_from(order + "I", data, 4)[0]
    link = first + 2 + 12 * struct.unpack_from(order + "H", data, first)[0]
    struct.pack_into(order + "I", data, link, len(data))
    at = len(data) + 2 + 12 * 2 + 4
    thumbnail = struct.pack(order + "HHHIIHHIIII", 2, THUMBNAIL, 4, 1, at, THUMBNAIL + 1, 4, 1, 9, 0, 0)[:30]
    return b"Exif\0\0" + bytes(data) + thumbnail + b"thumbnail"


def directories(exif: bytes) -> list[set[int]]:
    """The tags of each directory that a block has, by the TIFF specification: first, second, Exif, GPS."""
    data = exif.removeprefix(b"Exif\0\0")
    order = "<" if data[:2] == b"II" else ">"

    def walk(at: int) -> tuple[dict[int, int], int]:
        count = struct.unpack_from(order + "H", data, at)[0]
        entries = [struct.unpack_from(order + "HHII", data, at + 2 + 12 * k) for k in range(count)]
        following = struct.unpack_from(order + "I", data, at + 2 + 12 * count)[0]
        return {tag: value for tag, _, _, value in entries}, following

    first, link = walk(struct.unpack_from(order + "I", data, 4)[0])
    found = [set(first), set(walk(link)[0]) if link else set()]
    return found + [set(walk(first[tag])[0]) if tag in first else set() for tag in (EXIF, GPS)]


@pytest.fixture
def camera(tmp_path):
    """A photograph 12 x 8, taken with the camera turned, with all there is to say about it."""
    image = np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.jpg", exif=with_thumbnail(block()), xmp=XMP, dpi=(300, 200),
                                icc_profile=metadata.srgb_profile())
    return images.open_picture(tmp_path / "a.jpg")


def test_the_fixture_has_a_thumbnail():
    assert THUMBNAIL in directories(with_thumbnail(block()))[1]


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_metadata_goes_on_upright_and_without_the_old_picture(tmp_path, camera, format):
    images.write(tmp_path / "b", camera.pixels[:10], format, keep=camera.keep)
    with Image.open(tmp_path / "b") as img:
        exif, info = img.getexif(), img.info
        first, second, details, place = directories(info["exif"])
        told = info["xmp"]
    assert first == {MAKE, ARTIST, EXIF, GPS} and not second and place == {1, 2}
    assert details == {DATE, WIDTH, HEIGHT, SPACE}
    assert (exif[MAKE], exif[ARTIST], exif.get_ifd(EXIF)[DATE]) == ("ACME", "Ann", "2020:01:02 03:04:05")
    assert exif.get_ifd(GPS)[2] == (59.0, 20.0, 1.0)
    assert [exif.get_ifd(EXIF)[tag] for tag in (WIDTH, HEIGHT, SPACE)] == [8, 10, 1]
    assert b"\xc3\x85sa" in told and b'Rating="4"' in told
    assert not [word for word in (b"Orientation", b"Exposure", b"Thumbnails", b"secret", b"thumbnail") if word in told]
    assert info["icc_profile"] == metadata.srgb_profile()
    if format != "webp":
        assert info["dpi"] == pytest.approx((300, 200), abs=0.02)
    assert np.array_equal(images.read(tmp_path / "b").shape, (10, 8, 3))


def test_what_says_nothing_adds_nothing(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    images.write(tmp_path / "a.png", image)
    picture = images.open_picture(tmp_path / "a.png")
    assert picture.keep == Metadata()
    assert images.encode(image, "png", keep=picture.keep) == images.encode(image, "png")


def test_the_same_picture_gives_the_same_bytes(camera):
    """A profile that carried the second of its making would change every file of every run."""
    once = images.encode(camera.pixels, "png", keep=camera.keep)
    metadata.srgb_profile.cache_clear()
    assert images.encode(camera.pixels, "png", keep=camera.keep) == once


def test_a_block_too_long_for_a_jpeg_is_left_out_of_it(tmp_path):
    exif = block()
    exif[ARTIST] = "A" * 70_000
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", exif=exif)
    picture = images.open_picture(tmp_path / "a.png")
    for format, held in (("png", True), ("jpeg", False)):
        with Image.open(io.BytesIO(images.encode(picture.pixels, format, keep=picture.keep))) as img:
            assert (ARTIST in img.getexif()) == held


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0" + b"\0" * 40, b""])
def test_a_damaged_block_harms_nothing(tmp_path, exif):
    image = np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    picture = images.open_picture(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, image) and picture.keep.exif == b""


@pytest.mark.parametrize("xmp", [
    b"<x:xmpmeta", b"no markup", XMP.replace(b"</rdf:Description>", b""), XMP.replace(b'=""', b"<" * 3),
    b'<!DOCTYPE a [<!ENTITY b "bbbb">]>' + XMP, XMP.replace(b"<dc:creator>", b"<tiff:creator>").replace(
        b"</dc:creator>", b"</tiff:creator>").replace(b'xmp:Rating="4"', b"").replace(b"xmp:Th", b"tiff:Th")])
def test_a_packet_that_is_broken_or_says_nothing_to_keep_is_left_out(tmp_path, xmp):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg", xmp=xmp)
    assert images.open_picture(tmp_path / "a.jpg").keep.xmp == b""


@pytest.mark.parametrize("dpi", [(0, 300), (1e9, 1e9), None])
def test_a_resolution_that_is_none_is_left_out(tmp_path, dpi):
    img = Image.new("RGB", (4, 4))
    img.info["dpi"] = dpi
    assert metadata.of(img).dpi is None


def test_a_tiff_keeps_who_made_it_and_not_how_it_is_laid_out(tmp_path):
    Image.new("RGB", (5, 4)).save(tmp_path / "a.tif", exif=block(), dpi=(300, 300))
    first, *_ = directories(pictures.Source(tmp_path / "a.tif").keep.exif)
    assert {MAKE, ARTIST} <= first <= metadata.EXIF_KEPT | {EXIF, GPS}
