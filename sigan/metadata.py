"""What a picture says about itself, and how much of it goes on into a picture made from it.

Kept: of EXIF, who took it, when, where and how, GPS included; of XMP, author, rights, captions, keywords and rating;
the resolution in dots per inch; that there was a colour profile (the pixels are sRGB by then, so sRGB's is written).
Changed: the orientation, since the pixels are upright; the sizes in pixels; the colour space. Left out: thumbnails and
previews, which show the old picture; makers' notes, whose inner offsets break when they move; XMP's settings of raw
converters, regions and depth maps, which belong to the old pixels; IPTC blocks, comments and PNG texts.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from PIL import Image, ImageCms, PngImagePlugin
from PIL.ExifTags import IFD, Base

EXIF_KEPT = frozenset({  # of the first directory: of a TIFF, it also says how the file is laid out
    Base.ImageDescription, Base.Make, Base.Model, Base.XResolution, Base.YResolution, Base.ResolutionUnit,
    Base.Software, Base.DateTime, Base.Artist, Base.HostComputer, Base.Rating, Base.RatingPercent, Base.Copyright,
    Base.XPTitle, Base.XPComment, Base.XPAuthor, Base.XPKeywords, Base.XPSubject})
EXIF_LEFT = frozenset({Base.MakerNote, Base.ExifInteroperabilityOffset})  # of the Exif directory
SEGMENT = 65_500  # bytes that a block of EXIF or XMP may have in a JPEG, nearly
SRGB = 1  # EXIF's ColorSpace

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
XMP_KEPT = {  # Adobe's XMP specification parts 1 and 2, IPTC Photo Metadata 2023, Creative Commons, Lightroom
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "plus": "http://ns.useplus.org/ldf/xmp/1.0/",
    "cc": "http://creativecommons.org/ns#",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
}
XMP_LEFT = {f"{{{XMP_KEPT['xmp']}}}Thumbnails", f"{{{XMP_KEPT['Iptc4xmpExt']}}}ImageRegion",
            f"{{{XMP_KEPT['photoshop']}}}ICCProfile", f"{{{XMP_KEPT['photoshop']}}}DocumentAncestors"}
PACKET = (b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n', b'\n<?xpacket end="w"?>')


@dataclass(frozen=True)
class Metadata:
    """What goes on: blocks of EXIF and XMP, dots per inch, and whether the colours had a profile."""

    exif: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    profiled: bool = False

    def options(self, format: str, size: tuple[int, int]) -> dict[str, Any]:
        """Pillow's options that save it in a png, jpeg or webp of this width and height; what does not fit is left."""
        room = SEGMENT if format == "jpeg" else math.inf
        exif = _sized(self.exif, size) if self.exif else b""
        found: dict[str, Any] = {"exif": exif} if 0 < len(exif) < room else {}
        if self.xmp and len(self.xmp) < room:
            if format == "png":
                found["pnginfo"] = PngImagePlugin.PngInfo()
                found["pnginfo"].add_itxt("XML:com.adobe.xmp", self.xmp.decode())
            else:
                found["xmp"] = self.xmp
        if self.dpi and format != "webp":
            found["dpi"] = self.dpi
        return {**found, "icc_profile": srgb_profile()} if self.profiled else found


def of(img: Image.Image) -> Metadata:
    """What goes on of an opened picture; a block that cannot be read is left out."""
    xmp = img.info.get("xmp") or img.info.get("XML:com.adobe.xmp") or b""
    return Metadata(_exif(img), _xmp(xmp.encode() if isinstance(xmp, str) else xmp), _dpi(img.info.get("dpi")),
                    bool(img.info.get("icc_profile")))


def orientation(img: Image.Image) -> int:
    """1 to 8, as EXIF has it; 1, upright, where nothing legible is said."""
    try:
        value = img.getexif().get(Base.Orientation, 1)
    except Exception:  # a damaged block raises nearly everything, and the pixels are none the worse
        return 1
    return value if value in range(1, 9) else 1


@functools.cache
def srgb_profile() -> bytes:
    """The ICC profile of sRGB, the same bytes on every day."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes((7, 208, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0)) + profile[36:]  # the header's date: 2000-01-01


# ---- EXIF

def _exif(img: Image.Image) -> bytes:
    try:
        old, new = img.getexif(), Image.Exif()
        for tag in EXIF_KEPT & set(old):
            new[tag] = old[tag]
        details = {tag: value for tag, value in old.get_ifd(IFD.Exif).items() if tag not in EXIF_LEFT}
        if Base.ColorSpace in details:
            details[Base.ColorSpace] = SRGB
        for directory, values in ((IFD.Exif, details), (IFD.GPSInfo, old.get_ifd(IFD.GPSInfo))):
            if values:
                new[directory] = dict(values)
        return new.tobytes() if len(new) else b""
    except Exception:  # a damaged block raises nearly everything
        return b""


def _sized(exif: bytes, size: tuple[int, int]) -> bytes:
    """The block, telling of a picture of this width and height where it told of one."""
    block = Image.Exif()
    block.load(exif)
    details = block.get_ifd(IFD.Exif) if IFD.Exif in block else {}
    for tag, side in zip((Base.ExifImageWidth, Base.ExifImageHeight), size):
        if tag in details:
            details[tag] = side
    return block.tobytes()


# ---- XMP

def _xmp(packet: bytes) -> bytes:
    """The packet with the properties of XMP_KEPT alone; nothing when none is left."""
    if not packet or b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        return b""
    try:
        start, end = packet.index(b"<rdf:RDF"), packet.rindex(b"</rdf:RDF>") + len(b"</rdf:RDF>")
        declared = dict(re.findall(rb"xmlns:([\w.-]+)\s*=\s*[\"']([^\"']+)", packet[:start]))  # by the packet around
        outside = b"".join(b' xmlns:%s="%s"' % pair for pair in declared.items())
        tree = ElementTree.fromstring(b"<outside" + outside + b">" + packet[start:end] + b"</outside>")
    except (ValueError, ElementTree.ParseError):
        return b""
    left = 0
    for description in tree.iterfind(f"{RDF}RDF/{RDF}Description"):
        for name in [name for name in description.attrib if not name.startswith(RDF) and not _goes_on(name)]:
            del description.attrib[name]
        for element in [element for element in description if not _goes_on(element.tag)]:
            description.remove(element)
        left += len(description) + len([name for name in description.attrib if not name.startswith(RDF)])
    if not left:
        return b""
    for prefix, uri in (*XMP_KEPT.items(), ("rdf", RDF[1:-1])):
        ElementTree.register_namespace(prefix, uri)
    meta = ElementTree.Element("{adobe:ns:meta/}xmpmeta")
    meta.extend(tree)
    ElementTree.register_namespace("x", "adobe:ns:meta/")
    return PACKET[0] + ElementTree.tostring(meta, encoding="utf-8") + PACKET[1]


def _goes_on(name: str) -> bool:
    return name[1:].partition("}")[0] in XMP_KEPT.values() and name not in XMP_LEFT


def _dpi(value: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(side) for side in value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 1 <= x < SEGMENT and 1 <= y < SEGMENT else None
