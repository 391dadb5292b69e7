"""Key tables: what other programs call the tensors of our networks, and how they lay them out.

A table gives, for each of our keys, their key and a `Layout`. Tables are complete: `translate` refuses a state that
has a key too few, too many, or of another shape, and says all of it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sigan.errors import WeightsError
from sigan.nets.discriminator import DiscriminatorConfig
from sigan.nets.e4e import E4eConfig, E4eEncoder
from sigan.nets.stylegan2 import GeneratorConfig
from sigan.nets.unfilled import Unfilled

MAX_FAULTS = 2000  # more than any network here has keys


@dataclass(frozen=True)
class Layout:
    """A tensor in another program: `ours` makes it ours, `theirs` goes back."""

    ours: Callable[[Tensor], Tensor]
    theirs: Callable[[Tensor], Tensor]


SAME = Layout(lambda t: t, lambda t: t)
BATCHED = Layout(lambda t: t[0], lambda t: t[None])  # [1,...] -> [...]
NUMBER = Layout(lambda t: t.reshape([]), lambda t: t.reshape(1))  # [1] -> []
NOISE = Layout(lambda t: t[0, 0], lambda t: t[None, None])  # [1,1,R,R] -> [R,R]
PIXEL = Layout(lambda t: t.reshape(-1), lambda t: t.reshape(1, -1, 1, 1))  # [1,C,1,1] -> [C]
DENSE = Layout(lambda t: t.t(), lambda t: t.t())  # TensorFlow's [I,O] -> [O,I]
HWIO = Layout(lambda t: t.permute(3, 2, 0, 1), lambda t: t.permute(2, 3, 1, 0))  # TensorFlow's -> [O,I,K,K]
HWIO_UP = Layout(lambda t: t.flip(0, 1).permute(3, 2, 0, 1),  # a transposed convolution turns the kernel round
                 lambda t: t.permute(2, 3, 1, 0).flip(0, 1))
FROM_ONE = Layout(lambda t: t + 1, lambda t: t - 1)  # stored as the distance from 1

Table = dict[str, tuple[str, Layout]]


def translate(state: Mapping[str, Any], table: Table, net: nn.Module, what: str, source: str,
              constants: tuple[str, ...] = (), given: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The state of `net`, whose own numbers do not matter, from that of another program.

    Left out: their keys that end in one of `constants`, and our keys in `given`, which the caller adds. One
    WeightsError lists every missing, unexpected and mis-shaped key, sorted, by their names.
    """
    own = net.state_dict()
    if set(own) != {*table, *given}:
        raise ValueError(f"the table of {what} is not complete: {sorted(set(own) ^ {*table, *given})}")
    wanted = {theirs: tuple(layout.theirs(own[ours]).shape) for ours, (theirs, layout) in table.items()}
    found = {key: getattr(value, "shape", None) for key, value in state.items() if not key.endswith(constants)}
    faults = [f"missing {key}" for key in sorted(set(wanted) - set(found))]
    faults += [f"unexpected {ascii(key)[1:-1][:100]}" for key in sorted(set(found) - set(wanted))]
    both = [(key, found[key], wanted[key]) for key in sorted(set(found) & set(wanted))]
    faults += [f"{key} is {'no tensor' if shape is None else list(shape)}, not {list(due)}"
               for key, shape, due in both if shape is None or tuple(shape) != due]
    faults += [f"{key} is of whole numbers" for key, shape, _ in both
               if shape is not None and not state[key].dtype.is_floating_point]
    if len(faults) > MAX_FAULTS:
        faults[MAX_FAULTS:] = [f"and {len(faults) - MAX_FAULTS:,} more"]
    if faults:
        raise WeightsError(f"{source} looks like {what}, but is not: {'; '.join(faults)}",
                           "a changed network cannot be read: take the original file")
    return {ours: layout.ours(_read(state[theirs])) for ours, (theirs, layout) in table.items()}


def _read(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else value.read()


# ---- the generator: layers in order, as (ours, resolution)

def _layers(config: GeneratorConfig) -> list[tuple[str, int]]:
    return [("b4.conv1", 4), *((f"b{r}.{conv}", r) for r in config.resolutions[1:] for conv in ("conv0", "conv1"))]


def rosinality_generator(config: GeneratorConfig) -> Table:
    """Also JoJoGAN's, e4e's decoder and StyleIdentityGAN's; `mapping.w_avg` is kept elsewhere in their files."""
    table: Table = {"synthesis.b4.const": ("input.input", BATCHED)}
    for i in range(config.mapping_layers):
        table |= {f"mapping.fc{i}.{part}": (f"style.{i + 1}.{part}", SAME) for part in ("weight", "bias")}
    for n, (ours, _) in enumerate(_layers(config)):
        theirs = f"convs.{n - 1}" if n else "conv1"
        table |= _rosinality_modulated(f"synthesis.{ours}", theirs)
        table[f"synthesis.{ours}.noise_const"] = (f"noises.noise_{n}", NOISE)
        table[f"synthesis.{ours}.noise_strength"] = (f"{theirs}.noise.weight", NUMBER)
        table[f"synthesis.{ours}.bias"] = (f"{theirs}.activate.bias", SAME)
    for k, r in enumerate(config.resolutions):
        theirs = f"to_rgbs.{k - 1}" if k else "to_rgb1"
        table |= _rosinality_modulated(f"synthesis.b{r}.torgb", theirs)
        table[f"synthesis.b{r}.torgb.bias"] = (f"{theirs}.bias", PIXEL)
    return table


def _rosinality_modulated(ours: str, theirs: str) -> Table:
    return {f"{ours}.weight": (f"{theirs}.conv.weight", BATCHED),
            f"{ours}.affine.weight": (f"{theirs}.conv.modulation.weight", SAME),
            f"{ours}.affine.bias": (f"{theirs}.conv.modulation.bias", SAME)}


def nvidia_generator(config: GeneratorConfig) -> Table:
    """stylegan2-ada-pytorch's `G_ema`, whose names ours follow."""
    return {ours: (ours, SAME) for ours in [*rosinality_generator(config), "mapping.w_avg"]}


def tensorflow_generator(config: GeneratorConfig) -> Table:
    """The first StyleGAN2's `Gs`, components joined by `/`."""
    table: Table = {"mapping.w_avg": ("dlatent_avg", SAME),
                    "synthesis.b4.const": ("synthesis/4x4/Const/const", BATCHED)}
    for i in range(config.mapping_layers):
        table[f"mapping.fc{i}.weight"] = (f"mapping/Dense{i}/weight", DENSE)
        table[f"mapping.fc{i}.bias"] = (f"mapping/Dense{i}/bias", SAME)
    for n, (ours, r) in enumerate(_layers(config)):
        layer = "Conv" if r == 4 else "Conv0_up" if ours.endswith("conv0") else "Conv1"
        table |= _tensorflow_modulated(f"synthesis.{ours}", f"synthesis/{r}x{r}/{layer}")
        table[f"synthesis.{ours}.noise_const"] = (f"synthesis/noise{n}", NOISE)
        table[f"synthesis.{ours}.noise_strength"] = (f"synthesis/{r}x{r}/{layer}/noise_strength", SAME)
    for r in config.resolutions:
        table |= _tensorflow_modulated(f"synthesis.b{r}.torgb", f"synthesis/{r}x{r}/ToRGB")
    return table


def _tensorflow_modulated(ours: str, theirs: str) -> Table:
    return {f"{ours}.weight": (f"{theirs}/weight", HWIO_UP if theirs.endswith("_up") else HWIO),
            f"{ours}.bias": (f"{theirs}/bias", SAME),
            f"{ours}.affine.weight": (f"{theirs}/mod_weight", DENSE),
            f"{ours}.affine.bias": (f"{theirs}/mod_bias", FROM_ONE)}


# ---- the discriminator

def _blocks(config: DiscriminatorConfig) -> list[int]:
    """Resolutions of its residual blocks, the largest first."""
    return [2**i for i in range(config.resolution.bit_length() - 1, 2, -1)]


def rosinality_discriminator(config: DiscriminatorConfig) -> Table:
    """rosinality's `d`."""
    table: Table = {"from_rgb.weight": ("convs.0.0.weight", SAME), "from_rgb.bias": ("convs.0.1.bias", SAME),
                    "conv.weight": ("final_conv.0.weight", SAME), "conv.bias": ("final_conv.1.bias", SAME)}
    for i, r in enumerate(_blocks(config), start=1):
        table |= {f"b{r}.conv0.weight": (f"convs.{i}.conv1.0.weight", SAME),
                  f"b{r}.conv0.bias": (f"convs.{i}.conv1.1.bias", SAME),
                  f"b{r}.conv1.weight": (f"convs.{i}.conv2.1.weight", SAME),
                  f"b{r}.conv1.bias": (f"convs.{i}.conv2.2.bias", SAME),
                  f"b{r}.skip.weight": (f"convs.{i}.skip.1.weight", SAME)}
    for ours, n in (("fc", 0), ("out", 1)):
        table |= {f"{ours}.{part}": (f"final_linear.{n}.{part}", SAME) for part in ("weight", "bias")}
    return table


def nvidia_discriminator(config: DiscriminatorConfig) -> Table:
    """stylegan2-ada-pytorch's `D`: only its first and last layers have other names than ours."""
    moved = {"from_rgb": f"b{config.resolution}.fromrgb", "conv": "b4.conv", "fc": "b4.fc", "out": "b4.out"}
    return {ours: (f"{moved.get(layer, layer)}.{part}", SAME) for ours in rosinality_discriminator(config)
            for layer, part in [ours.rsplit(".", 1)]}


def tensorflow_discriminator(config: DiscriminatorConfig) -> Table:
    """The first StyleGAN2's `D`."""
    r = config.resolution
    layers = {"from_rgb": (f"{r}x{r}/FromRGB", HWIO), "conv": ("4x4/Conv", HWIO), "fc": ("4x4/Dense0", DENSE),
              "out": ("Output", DENSE)}
    for r in _blocks(config):
        layers |= {f"b{r}.conv0": (f"{r}x{r}/Conv0", HWIO), f"b{r}.conv1": (f"{r}x{r}/Conv1_down", HWIO),
                   f"b{r}.skip": (f"{r}x{r}/Skip", HWIO)}
    table: Table = {}
    for ours in rosinality_discriminator(config):
        layer, part = ours.rsplit(".", 1)
        theirs, layout = layers[layer]
        table[ours] = (f"{theirs}/{part}", layout if part == "weight" else SAME)
    return table


# ---- the encoder

def e4e_encoder(config: E4eConfig) -> Table:
    """e4e's names are ours; its mean codes are kept elsewhere in the file."""
    with Unfilled():
        return {ours: (ours, SAME) for ours in E4eEncoder(config).state_dict() if ours != "w_avg"}
