"""Aligned faces: tar files or folders of pictures, packed once into one safetensors file of uint8 tensors."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


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


def pack(sources: list[Path], out: Path, size: int) -> dict[str, int]:
    """Writes every source's faces as one tensor `<stem>` uint8 [N,size,size,3]; returns the counts."""
    sets = {s.stem: torch.from_numpy(np.stack([decode(c, size) for _, c in pictures(s)])) for s in sources}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(sets, out)
    return {name: len(faces) for name, faces in sets.items()}


class Faces:
    """All packed faces in memory; batches are drawn and mirrored by a generator of its own."""

    def __init__(self, packed: Path, seed: int = 0):
        self.sets = load_file(packed)
        self.images = torch.cat(list(self.sets.values()))  # [N,R,R,3]
        self.random = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def resolution(self) -> int:
        return self.images.shape[1]

    def batch(self, n: int) -> Tensor:
        """n faces, half of them mirrored.  -> [n,3,R,R] in [-1,1]"""
        x = to_float(self.images[torch.randint(len(self), (n,), generator=self.random)])
        flip = torch.rand(n, generator=self.random) < 0.5
        return torch.where(flip[:, None, None, None], x.flip(3), x)

    def chunks(self, n: int = 512) -> Iterator[Tensor]:
        for i in range(0, len(self), n):
            yield to_float(self.images[i : i + n])


def to_float(images: Tensor) -> Tensor:
    """uint8 [N,R,R,3] -> float32 [N,3,R,R] in [-1,1]"""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1
