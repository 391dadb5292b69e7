"""The yardstick that a learned base must beat: principal components of RGB pixels at 128², unweighted.

Fitted by randomised subspace iteration (Halko 2011, algorithm 4.4), streaming over the packed faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sigan_foundry.data import Faces

SIDE = 128
COEFFICIENTS = 1000
RECORDED = {"median dlib distance": 0.426, "N": 138, "source": "recorded at 128² before this base, not measured here"}
OVERSAMPLING = 50
ITERATIONS = 2


@dataclass(frozen=True, eq=False)
class Components:
    """mean [P] and orthonormal rows [k,P], P = 3 * side²."""

    mean: Tensor
    rows: Tensor
    side: int

    def redraw(self, x: Tensor) -> Tensor:
        """Faces from their coefficients alone, at the size they came in.  [N,3,R,R] -> same"""
        r = x.shape[-1]
        flat = resize(x, self.side).flatten(1) - self.mean
        y = (flat @ self.rows.t() @ self.rows + self.mean).view(len(x), 3, self.side, self.side)
        return resize(y, r)


def resize(x: Tensor, side: int) -> Tensor:
    """[N,3,R,R] -> [N,3,side,side], antialiased when it shrinks."""
    return x if x.shape[-1] == side else F.interpolate(x, size=(side, side), mode="bicubic", antialias=True)


@torch.no_grad()
def fit(faces: Faces, coefficients: int = COEFFICIENTS, side: int = SIDE, seed: int = 0) -> Components:
    """The leading components of all faces."""
    coefficients = min(coefficients, len(faces) - 1, 3 * side * side)
    mean = sum(resize(x, side).flatten(1).sum(0) for x in faces.chunks()) / len(faces)
    width = min(coefficients + OVERSAMPLING, len(faces), len(mean))
    basis = torch.randn(len(mean), width, generator=torch.Generator().manual_seed(seed))
    for _ in range(ITERATIONS):
        total = torch.zeros_like(basis)
        for x in faces.chunks():
            rows = resize(x, side).flatten(1) - mean
            total.addmm_(rows.t(), rows @ basis)
        basis = torch.linalg.qr(total).Q
    covariance = torch.zeros(width, width)
    for x in faces.chunks():
        seen = (resize(x, side).flatten(1) - mean) @ basis
        covariance.addmm_(seen.t(), seen)
    vectors = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :coefficients]
    return Components(mean, (basis @ vectors).t().contiguous(), side)
