"""The one meeting place of uint8 [H,W,3] arrays, float [N,3,R,R] batches in [-1,1] and the files written."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from sigan import pictures
from sigan.errors import ConfigError, InputError, OutputError
from sigan.metadata import Metadata
from sigan.pictures import SUFFIXES as SUFFIXES
from sigan.pictures import WHITE
from sigan.pictures import decodes as decodes
from sigan.pictures import open_picture as open_picture

if TYPE_CHECKING:
    import torch

FORMATS = {"png": {}, "jpeg": {"quality": 95, "subsampling": 0}, "webp": {"quality": 95, "method": 4}}
LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601, as in JPEG, Pillow's and Matlab's grey


# ---- files to arrays

def read(path: str | Path) -> np.ndarray:
    """The picture as uint8 [H,W,3], upright, in sRGB, transparency over white, first frame of an animation.

    Raises UnreadableImageError, as `pictures.open_picture`, which gives more of it.
    """
    return pictures.open_picture(path).over_white


# ---- arrays to batches and back

def to_batch(images: Sequence[np.ndarray], device: torch.device | str = "cpu") -> torch.Tensor:
    """float32 [N,3,R,R] in [-1,1] of N uint8 [R,R,3] faces; InputError when they are not all of one square size."""
    import torch  # reading and cutting pictures must not load torch

    images = [np.asarray(image) for image in images]
    shapes = sorted({image.shape for image in images})
    if len(shapes) != 1 or shapes[0] != (*shapes[0][:1] * 2, 3) or any(image.dtype != np.uint8 for image in images):
        raise InputError(f"a batch is uint8 [R,R,3] faces of one size; got shapes {shapes or 'none'}",
                         "align the pictures to one size first")
    x = torch.from_numpy(np.stack(images)).to(device)
    return x.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()  # [N,3,R,R]


def from_batch(y: torch.Tensor) -> list[np.ndarray]:
    """uint8 [R,R,3] pictures of float [N,3,R,R] in [-1,1]; values outside are clipped."""
    if y.ndim != 4 or y.shape[1] != 3:
        raise InputError(f"y is [N,3,R,R]; got {list(y.shape)}")
    y = y.detach().float().add(1).mul(127.5).round().clamp(0, 255).byte()
    return list(y.permute(0, 2, 3, 1).contiguous().cpu().numpy())


def luma(x: torch.Tensor) -> torch.Tensor:
    """The luma of pictures.  [N,3,R,R] -> [N,1,R,R]"""
    return (x * x.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [size,size,3], antialiased when it shrinks."""
    if image.shape[:2] == (size, size):
        return image
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))


# ---- arrays to files

def write(path: str | Path, image: np.ndarray, format: str = "png", *, keep: Metadata | None = None) -> None:
    """Writes uint8 [H,W,3], or [H,W,4] with alpha, whole or not at all as png, jpeg or webp; suffix: the caller's."""
    atomic_write(path, encode(image, format, keep=keep))


def encode(image: np.ndarray, format: str = "png", *, keep: Metadata | None = None, **options: Any) -> bytes:
    """The bytes of a png, jpeg or webp file of uint8 [H,W,3] or [H,W,4]; a jpeg, which has no alpha, is over white.

    `keep` is another picture's metadata, to go on in this file; `options` are Pillow's, over those of FORMATS.
    """
    if format not in FORMATS:
        raise ConfigError(f"format is {format!r}; it must be one of {', '.join(FORMATS)}")
    image = np.asarray(image)
    if format == "jpeg" and image.shape[2] == 4:
        image = pictures.Picture(image[..., :3], image[..., 3]).over_white
    img, buffer = Image.fromarray(image), io.BytesIO()
    kept = keep.options(format, img.size) if keep is not None else {}
    img.save(buffer, format.upper(), **{**FORMATS[format], **kept, **options})
    return buffer.getvalue()


def atomic_write(path: str | Path, data: bytes) -> None:
    """Writes `data` beside `path`, then renames, so that no half file is ever seen; OutputError when it cannot."""
    path = Path(path)
    part = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "xb") as file:
                file.write(data)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})",
                          "choose another destination, or check its permissions and free space") from error


def contact_sheet(rows: Sequence[Sequence[np.ndarray | None]], labels: Sequence[str] | None = None,
                  cell: int = 128) -> np.ndarray:
    """uint8 [H,W,3]: each row's pictures fitted into square cells, its label on the left; None leaves a gap."""
    gap, margin = 4, 110 if labels else 0
    columns = max((len(row) for row in rows), default=0)
    size = margin + columns * (cell + gap) + gap, len(rows) * (cell + gap) + gap
    sheet = Image.new("RGB", size, WHITE)
    draw = ImageDraw.Draw(sheet)
    for j, row in enumerate(rows):
        top = gap + j * (cell + gap)
        if labels:
            draw.text((gap, top + cell // 2 - 6), labels[j][:17], fill=(0, 0, 0))
        for i, image in enumerate(row):
            if image is not None:
                fitted = ImageOps.contain(Image.fromarray(np.asarray(image)), (cell, cell))
                sheet.paste(fitted, (margin + gap + i * (cell + gap), top))
    return np.array(sheet)
