"""Aligned faces: tar files or folders of pictures, packed once into one safetensors file of uint8 tensors.

Sets smaller than the packed size are kept at half of it: enlarged, their blur would be learned as truth.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sigan.errors import InputError, OutputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SHARP_SHARE = 0.75  # of the faces drawn, where there are sets of both sizes


def pictures(source: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the pictures in a tar file or a folder, in a fixed order."""
    if source.is_dir():
        for path in sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES):
            yield str(path.relative_to(source)), path.read_bytes()
        return
    with tarfile.open(source) as tar:
        for member in tar:
            if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES:
                yield member.name, tar.extractfile(member).read()


def decode(content: bytes, size: int) -> np.ndarray:
    """RGB uint8 [size,size,3]."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def pack(sources: list[Path], out: Path, size: int, left_out: Collection[tuple[str, str]] = ()) -> dict[str, int]:
    """Writes every source's faces as one tensor `<stem>` uint8 [N,r,r,3]; r is size, or half of it. Returns counts.

    left_out: (source, name) of faces that are not wanted. InputError names a source that has no other,
    OutputError the file that cannot be written.
    """
    sets = {}
    for source in sources:
        contents = [content for name, content in pictures(source) if (str(source), name) not in left_out]
        if not contents:
            raise InputError(f"{source} holds no face to train on", "leave it out, or name another source")
        native = min(Image.open(io.BytesIO(contents[0])).size)
        side = size if native >= size else size // 2
        sets[source.stem] = torch.from_numpy(np.stack([decode(content, side) for content in contents]))
    save_whole(sets, out)
    return {name: len(faces) for name, faces in sets.items()}


def save_whole(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file beside `path`, then renames: what was there stays until the new one is complete.

    OutputError when the disk is full or the folder cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, part, metadata)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:  # safetensors tells of a full disk in its own words
        part.unlink(missing_ok=True)
        kept = "; what was saved before is as it was" if path.exists() else ""
        raise OutputError(f"{path} cannot be written ({error}){kept}", "make room on the disk, or save elsewhere"
                          ) from error


class Faces:
    """All packed faces in memory; batches are drawn and mirrored by a generator of its own."""

    def __init__(self, packed: Path, seed: int = 0):
        try:
            sets = load_file(packed)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{packed} holds no packed faces ({error})", "write it with `sigan foundry pack`"
                             ) from error
        self.resolution = max(faces.shape[1] for faces in sets.values())
        self.sharp = torch.cat([faces for faces in sets.values() if faces.shape[1] == self.resolution])  # [N,R,R,3]
        soft = [faces for faces in sets.values() if faces.shape[1] != self.resolution]
        self.soft = torch.cat(soft) if soft else self.sharp[:0]  # [M,R/2,R/2,3]
        self.random = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.sharp) + len(self.soft)

    def batch(self, n: int) -> tuple[Tensor, int]:
        """n faces, half of them mirrored, and how many of them are sharp: those come first.

        -> [n,3,R,R] in [-1,1]; the others were known at R/2 and are enlarged.
        """
        sharp = round(SHARP_SHARE * n) if len(self.soft) else n
        x = to_float(self._draw(self.sharp, sharp))
        if sharp < n:
            x = torch.cat([x, enlarge(to_float(self._draw(self.soft, n - sharp)))])
        flip = torch.rand(n, generator=self.random) < 0.5
        return torch.where(flip[:, None, None, None], x.flip(3), x), sharp

    def _draw(self, images: Tensor, n: int) -> Tensor:
        return images[torch.randint(len(images), (n,), generator=self.random)]

    def chunks(self, n: int = 512) -> Iterator[Tensor]:
        """All faces in order, [n,3,r,r]: sharp ones at R, then the others at R/2."""
        for images in (self.sharp, self.soft):
            for i in range(0, len(images), n):
                yield to_float(images[i : i + n])


def enlarge(x: Tensor) -> Tensor:
    """Twice the size.  [N,3,r,r] -> [N,3,2r,2r]"""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def to_float(images: Tensor) -> Tensor:
    """uint8 [N,R,R,3] -> float32 [N,3,R,R] in [-1,1]"""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1
