"""The figures of a model card, on faces that no training saw, and the grids that show them.

dlib judges identity; it is imported here alone, so that training runs where it is not installed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sigan_foundry import data, perceptual

GRID = 14
BATCH = 16


def write_grid(rows: list[Tensor], path: Path) -> None:
    """Rows of pictures [N,3,R,R] in [-1,1] as one PNG."""
    sheet = torch.cat([torch.cat(list(row.float().cpu()), 2) for row in rows], 1)
    pixels = ((sheet.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path)


@torch.no_grad()
def evaluate(base_name: str, source: Path, trunk: Path, out: Path, limit: int = 0, samples: int = 500) -> dict:
    """Figures with their N: identity by source set, PSNR, SqueezeNet distance, faces found in samples, diversity."""
    from sigan import bases, evaluation, images

    base, judge = bases.load(base_name), evaluation.Identity()
    names, pixels = zip(*[(n, data.decode(c, base.resolution)) for n, c in data.pictures(source)])
    if limit and limit < len(names):
        keep = np.linspace(0, len(names) - 1, limit).round().astype(int)
        names, pixels = [names[i] for i in keep], [pixels[i] for i in keep]
    x = images.to_batch(pixels)
    redrawn = torch.cat([base.generator.synthesis(base.encoder(part)) for part in x.split(BATCH)])
    net = perceptual.SqueezeNet.load(trunk)
    feature = torch.cat([perceptual.distance(net(a), net(b)) for a, b in zip(x.split(BATCH), redrawn.split(BATCH))])
    psnr = 10 * torch.log10(4 / (x - redrawn.clamp(-1, 1)).square().mean((1, 2, 3)))
    truth = [judge.descriptor(p) for p in pixels]
    again = [judge.descriptor(p) for p in images.from_batch(redrawn)]
    ws = base.sample(samples, seed=1, truncation=0.7)
    drawn = [p for part in ws.split(BATCH) for p in images.from_batch(base.generator.synthesis(part))]
    wild = [p for part in base.sample(min(samples, 138), seed=2, truncation=1.0).split(BATCH)
            for p in images.from_batch(base.generator.synthesis(part))]
    found = [judge.descriptor(p) is not None for p in drawn]
    out.mkdir(parents=True, exist_ok=True)
    step = max(1, len(x) // GRID)
    write_grid([x[::step][:GRID], redrawn[::step][:GRID]], out / "reconstructions.png")
    write_grid([images.to_batch(row) for row in _rows(drawn, 3)], out / "samples.png")
    write_grid(_interpolations(base), out / "interpolations.png")
    return {
        "base": base.name, "hash": base.hash, "resolution": base.resolution,
        "inversion": {"all": _distances(truth, again),
                      **{kind: _distances(*zip(*[(a, b) for n, a, b in zip(names, truth, again) if kind in n]))
                         for kind in sorted({Path(n).stem.split("-")[0] for n in names})}},
        "psnr_mean": round(float(psnr.mean()), 2), "squeezenet_mean": round(float(feature.mean()), 4), "N": len(x),
        "samples": {"N": len(drawn), "truncation": 0.7, "faces_found": round(sum(found) / len(found), 4)},
        "diversity": {"samples at truncation 1": _diversity([judge.descriptor(p) for p in wild]),
                      "validation faces": _diversity(truth)},
    }


def _distances(a: list, b: list) -> dict:
    """Median and mean dlib distance of the pairs in which both have a face."""
    values = [float(np.linalg.norm(p - q)) for p, q in zip(a, b) if p is not None and q is not None]
    return {"N": len(values), "no_face": len(a) - len(values), "median": round(float(np.median(values)), 4),
            "mean": round(float(np.mean(values)), 4)}


def _diversity(descriptors: list) -> dict:
    """Mean distance of all pairs of different faces."""
    found = np.stack([d for d in descriptors if d is not None])
    distances = np.linalg.norm(found[:, None] - found[None], axis=-1)
    return {"N": len(found), "mean_distance": round(float(distances[np.triu_indices(len(found), 1)].mean()), 4)}


def _rows(pictures: list[np.ndarray], count: int) -> list[list[np.ndarray]]:
    full = [pictures[i : i + GRID] for i in range(0, count * GRID, GRID)]
    return [row for row in full if len(row) == GRID] or [pictures]


def _interpolations(base) -> list[Tensor]:
    """Three pairs of drawn faces, and the way between them."""
    ws = base.sample(6, seed=3)
    share = torch.linspace(0, 1, GRID).view(-1, 1, 1)
    return [base.generator.synthesis(a.lerp(b, share)) for a, b in ws.view(3, 2, *ws.shape[1:])]
