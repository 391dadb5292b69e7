"""The closed-form start: principal components of faces become the generator's canvas and the encoder's projection.

Errors are weighed by a fixed map (the framing is fixed), so that the code's dimensions are spent on the face:
measured on 137 validation faces, 1024 weighted components redraw at a median dlib distance of 0.27, unweighted 0.39.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sigan.framing import face_mask
from sigan.nets.compact_encoder import CompactEncoder, to_ycc
from sigan.nets.stylegan2 import Canvas, Generator
from sigan_foundry.data import Faces

BACKGROUND_WEIGHT = 0.25  # of the face's 1
NEIGHBOURS = 3  # by eye and dlib: 8 are soft and less diverse, 1 is the person himself
GAIN = 1.725  # blends are pale; so spread out, they have the contrast of the faces (at 1.15, 0.74 of it; at 2.1, 1.12)
NEAR_LUMA, NEAR_CHROMA = 128, 32  # components compared
SHARPNESS = 3.0  # of the attention: one or two anchors have most of the weight
AFFINE_SCALE = 0.1  # codes of a thousand independent numbers would modulate at random; training finds what matters


def face_weights(resolution: int) -> Tensor:
    """1 on the face, BACKGROUND_WEIGHT around it, a soft edge between.  [r,r]"""
    return BACKGROUND_WEIGHT + (1 - BACKGROUND_WEIGHT) * face_mask(resolution)


def components(rows: Tensor, weights: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [P], synthesis [P,k] and analysis [k,P] of whitened, weighted principal components of rows [N,P]."""
    mean = rows.mean(0)
    centred = (rows - mean) * weights
    energy, vectors = torch.linalg.eigh(centred.t() @ centred / len(rows))
    energy, vectors = energy.flip(0)[:k], vectors.flip(1)[:, :k]
    sigma = energy.clamp_min(1e-8).sqrt()
    return mean, vectors * sigma / weights[:, None], (vectors / sigma).t() * weights


def code_weights(canvas: Canvas) -> Tensor:
    """What each dimension of a code draws, as a share of the whole.  [C]"""
    norms = torch.cat([canvas.luma.weight.detach().norm(dim=0), canvas.chroma.weight.detach().norm(dim=0)])
    return norms / norms.sum()


@torch.no_grad()
def start(generator: Generator, encoder: CompactEncoder, faces: Faces) -> None:
    """Fits canvas, projection and mapping; the convolutions start by adding nothing to the canvas."""
    canvas = generator.synthesis.canvas
    r = canvas.resolution
    luma, chroma = [], []
    for x in faces.chunks():
        ycc = to_ycc(x)
        y, c = F.adaptive_avg_pool2d(ycc[:, :1], r), F.adaptive_avg_pool2d(ycc[:, 1:], r // 2)
        luma += [y.flatten(1), y.flip(3).flatten(1)]
        chroma += [c.flatten(1), c.flip(3).flatten(1)]
    fits = [
        (torch.cat(luma), face_weights(r).flatten(), canvas.luma, encoder.luma),
        (torch.cat(chroma), face_weights(r // 2).flatten().repeat(2), canvas.chroma, encoder.chroma),
    ]
    codes = []
    for rows, weights, draw, read in fits:
        mean, synthesis, analysis = components(rows, weights, draw.in_features)
        draw.weight.copy_(synthesis)
        draw.bias.copy_(mean)
        read.weight.copy_(analysis)
        read.bias.copy_(-analysis @ mean)
        codes.append(read(rows))
    fit_anchors(generator, torch.cat(codes, 1))
    for name, parameter in generator.synthesis.named_parameters():
        if name.endswith("torgb.weight"):
            parameter.zero_()
        elif name.endswith("affine.weight"):
            parameter.mul_(AFFINE_SCALE)


def fit_anchors(generator: Generator, w: Tensor, seed: int = 0) -> None:
    """Anchors are faces of nobody: each the mean code of NEIGHBOURS similar faces, spread out again by GAIN.

    w [N,C] whitened codes. Similar: near in the canvas' leading components. Keys are those of the anchors, so that
    attention blends similar ones. Means of unlike faces are ghosts, and so are draws from a normal distribution.
    """
    canvas, mapping = generator.synthesis.canvas, generator.mapping
    luma = canvas.luma_dims
    near = torch.cat([w[:, :luma][:, :NEAR_LUMA] * canvas.luma.weight[:, :NEAR_LUMA].norm(dim=0),
                      w[:, luma : luma + NEAR_CHROMA] * canvas.chroma.weight[:, :NEAR_CHROMA].norm(dim=0)], 1)
    chosen = torch.randperm(len(w), generator=torch.Generator().manual_seed(seed))[: len(mapping.keys)]
    values = []
    for part in chosen.split(128):
        nearest = torch.cdist(near[part], near).topk(NEIGHBOURS + 1, largest=False).indices[:, 1:]  # not the face
        values.append(w[nearest].mean(1) * GAIN)
    mapping.values.copy_(torch.cat(values))
    chroma_keys = generator.config.z_dim // 4
    leading = torch.cat([mapping.values[:, : generator.config.z_dim - chroma_keys],
                         mapping.values[:, luma : luma + chroma_keys]], 1)
    keys = torch.nn.functional.normalize(leading / leading.std(0), dim=1)
    mapping.keys.copy_(keys * generator.config.z_dim**0.5 * SHARPNESS)
    mapping.w_avg.copy_(w.mean(0))
