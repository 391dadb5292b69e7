"""Checkpoints of other programs -> networks in our names, recognised by what is in them, not by their file names.

Reads rosinality's StyleGAN2 and its kin (JoJoGAN, StyleIdentityGAN), NVIDIA's pickles (stylegan2-ada-pytorch,
stylegan3's StyleGAN2, the TensorFlow original), e4e, JoJoGAN's styles, saved codes, and our own files. No file is run:
`checkpoints` reads, `convert.keys` translates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sigan import checkpoints
from sigan.convert import e4e, nvidia, rosinality
from sigan.convert.foreign import READS, Foreign, Part, facts, shown
from sigan.errors import WeightsError
from sigan.pickles import Record
from sigan.tensors import StoredTensor

__all__ = ["Foreign", "Part", "read"]


def read(path: str | Path) -> Foreign:
    """The networks or codes in a file. WeightsError says what the file is instead, or all that does not fit."""
    tree, source = checkpoints.read(path), str(path)
    if isinstance(tree, Record) and tree.kind == "safetensors":
        [metadata], tree = tree.args, tree.state
        if "config" in metadata:
            return _sigan(tree, metadata, source)
    for fits, make in LAYOUTS:
        if fits(tree):
            return make(tree, source)
    raise WeightsError(f"{source} is {_wrong(tree)}", READS)


# ---- codes, our own files

def _latent(tree: Any, source: str) -> Foreign:
    codes = tree["latent"] if isinstance(tree, dict) else tree
    if not isinstance(codes, StoredTensor) or len(codes.shape) not in (2, 3) or 0 in codes.shape or codes.shape[-2] < 2:
        raise WeightsError(f"{source}: codes are {shown(codes)}, not [L,C] or [N,L,C]", "give codes in w+, one a layer")
    ws = codes.read()
    ws = ws if ws.ndim == 3 else ws[None]
    config = {"num_ws": ws.shape[1], "w_dim": ws.shape[2]}
    return Foreign("latent", {"ws": Part("ws", config, {"ws": ws}, "ws")}, {**config, "notes": []})


def _sigan(tree: dict[str, Tensor], metadata: dict[str, str], source: str) -> Foreign:
    kind = metadata.get("kind", "")
    net = "encoder" if kind == "e4e" else kind
    if net not in ("generator", "discriminator", "encoder"):
        raise WeightsError(f"{source} is a file of sigan's, but no network: its kind is {ascii(kind)}",
                           "a style pack is installed with `sigan styles install`")
    try:
        config = dict(json.loads(metadata["config"]))
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{source} has a damaged configuration: {error}", READS) from error
    part = Part(net, config, tree, kind)
    return Foreign("sigan", {net: part}, {**facts(part, []), "licence": metadata.get("licence", "")})


# ---- what is what

def _has(tree: Any, *names: str) -> bool:
    return isinstance(tree, dict) and all(name in tree for name in names)


def _is_encoder(tree: Any) -> bool:
    return _has(tree, "state_dict") and isinstance(tree["state_dict"], dict) and any(
        str(key).startswith("encoder.") for key in tree["state_dict"])


LAYOUTS: tuple[tuple[Callable[[Any], bool], Callable[[Any, str], Foreign]], ...] = (
    (lambda tree: _has(tree, "g_ema"), rosinality.read),
    (lambda tree: _has(tree, "g"), rosinality.read_style),
    (lambda tree: _has(tree, "input.input"), lambda tree, source: rosinality.read({"g_ema": tree}, source)),
    (lambda tree: _has(tree, "final_conv.0.weight"), rosinality.read_discriminator),
    (lambda tree: _has(tree, "G_ema"), nvidia.read),
    (lambda tree: _has(tree, "mapping.fc0.weight"), nvidia.read_state),
    (nvidia.is_tensorflow, nvidia.read_tensorflow),
    (_is_encoder, e4e.read),
    (lambda tree: isinstance(tree, StoredTensor) or _has(tree, "latent"), _latent),
)

OTHERS = {  # a key that gives a network away -> what it is
    "output_layer.3.weight": "a face recogniser (IR-SE50), not a generator or encoder",
    "Conv2d_1a_3x3.conv.weight": "the Inception network that FID uses",
    "features.0.weight": "a classifier (VGG or AlexNet) such as LPIPS uses",
    "lin0.model.1.weight": "the heads of LPIPS",
    "params_ema": "a checkpoint of BasicSR (GFPGAN, Real-ESRGAN)",
}


def _wrong(tree: Any) -> str:
    """What a tree is that no layout fits."""
    if isinstance(tree, Record):
        return f"a pickled {ascii(tree.kind)[1:-1][:80]}, not the checkpoint of a model"
    if not isinstance(tree, Mapping):
        return f"no checkpoint: it holds a {shown(tree)}"
    for key, name in OTHERS.items():
        if key in tree:
            return name
    if isinstance(tree.get("state_dict"), dict):
        inner = tree["state_dict"]
        if any(str(key).startswith("generator") for key in inner):
            return "a checkpoint of mmgeneration, whose layout is not known here"
        tree = inner
    names = [ascii(key)[:60] for key in list(tree)[:6]]
    return f"a checkpoint of no known layout: it holds {', '.join(names) or 'nothing'}" + (
        f" and {len(tree) - 6} more" if len(tree) > 6 else "")
