"""Foreign state dicts -> the names of `sigan.nets.stylegan2`, by explicit key tables.

Tensors in, tensors out; no file is opened here yet.
"""

from __future__ import annotations

from torch import Tensor

from sigan.errors import WeightsError
from sigan.nets.stylegan2 import GeneratorConfig

LAYER_PARTS = {  # rosinality's StyledConv -> ours
    "conv.weight": ("weight", lambda t: t[0]),
    "conv.modulation.weight": ("affine.weight", None),
    "conv.modulation.bias": ("affine.bias", None),
    "noise.weight": ("noise_strength", lambda t: t.reshape([])),
    "activate.bias": ("bias", None),
}
TORGB_PARTS = {
    "conv.weight": ("weight", lambda t: t[0]),
    "conv.modulation.weight": ("affine.weight", None),
    "conv.modulation.bias": ("affine.bias", None),
    "bias": ("bias", lambda t: t.reshape(-1)),
}


def rosinality_table(config: GeneratorConfig) -> dict[str, tuple[str, object]]:
    """Our key -> (rosinality's key, reshaping or None), for every tensor of a plain generator but `mapping.w_avg`."""
    table: dict[str, tuple[str, object]] = {"synthesis.b4.const": ("input.input", lambda t: t[0])}
    for i in range(config.mapping_layers):
        table |= {f"mapping.fc{i}.{part}": (f"style.{i + 1}.{part}", None) for part in ("weight", "bias")}
    layers = [("b4.conv1", "conv1", 0)]
    torgbs = [("b4.torgb", "to_rgb1")]
    for k, r in enumerate(config.resolutions[1:]):
        layers += [(f"b{r}.conv0", f"convs.{2 * k}", 2 * k + 1), (f"b{r}.conv1", f"convs.{2 * k + 1}", 2 * k + 2)]
        torgbs.append((f"b{r}.torgb", f"to_rgbs.{k}"))
    for ours, theirs, noise in layers:
        table[f"synthesis.{ours}.noise_const"] = (f"noises.noise_{noise}", lambda t: t[0, 0])
        table |= {f"synthesis.{ours}.{mine}": (f"{theirs}.{part}", fix) for part, (mine, fix) in LAYER_PARTS.items()}
    for ours, theirs in torgbs:
        table |= {f"synthesis.{ours}.{mine}": (f"{theirs}.{part}", fix) for part, (mine, fix) in TORGB_PARTS.items()}
    return table


def from_rosinality(state: dict[str, Tensor], config: GeneratorConfig, w_avg: Tensor) -> dict[str, Tensor]:
    """A rosinality / JoJoGAN / StyleIdentityGAN `g_ema` in our names. WeightsError lists all that does not pair up."""
    table = rosinality_table(config)
    wanted = {theirs for theirs, _ in table.values()}
    given = {key for key in state if not key.endswith(".kernel")}  # FIR taps are constants
    _check(wanted, given, "rosinality generator")
    ours = {key: fix(state[theirs]) if fix else state[theirs] for key, (theirs, fix) in table.items()}
    return {**ours, "mapping.w_avg": w_avg.reshape(-1)}


def from_nvidia(state: dict[str, Tensor], config: GeneratorConfig) -> dict[str, Tensor]:
    """A stylegan2-ada-pytorch `G_ema` in our names, which follow it. WeightsError lists all that does not pair up."""
    wanted = {*rosinality_table(config), "mapping.w_avg"}
    given = {key for key in state if not key.endswith("resample_filter")}
    _check(wanted, given, "stylegan2-ada-pytorch generator")
    return {key: state[key] for key in wanted}


def _check(wanted: set[str], given: set[str], what: str) -> None:
    faults = [f"missing {k}" for k in sorted(wanted - given)] + [f"unexpected {k}" for k in sorted(given - wanted)]
    if faults:
        raise WeightsError(f"this is no {what} of the stated size: {'; '.join(faults)}",
                           "check resolution, w_dim and the number of mapping layers")
