"""Writes networks as other programs save them: independent of `sigan.convert`, from the layouts' description alone.

Classes that the pickles must name stand in modules made up on the spot, which `planted` takes away again.
"""

from __future__ import annotations

import contextlib
import math
import pickle
import re
import sys
import types
from collections import OrderedDict

import numpy as np
import torch

FIR = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


def generator(resolution: int = 32, seed: int = 0, **sizes):
    """A random generator whose biases and noise are not zero."""
    from sigan.nets.stylegan2 import Generator, GeneratorConfig

    sizes = {"w_dim": 24, "z_dim": 20, "mapping_layers": 3, "channel_base": 16 * resolution, "channel_max": 32, **sizes}
    return shaken(Generator(GeneratorConfig(resolution=resolution, **sizes)), seed)


def discriminator(resolution: int = 32, seed: int = 1, **sizes):
    from sigan.nets.discriminator import Discriminator, DiscriminatorConfig

    sizes = {"channel_base": 16 * resolution, "channel_max": 32, **sizes}
    return shaken(Discriminator(DiscriminatorConfig(resolution=resolution, **sizes)), seed)


def encoder(resolution: int = 32, seed: int = 2, **sizes):
    from sigan.nets.e4e import E4eConfig, E4eEncoder

    sizes = {"w_dim": 24, "width": 16, "input_resolution": 64, **sizes}
    return shaken(E4eEncoder(E4eConfig(resolution=resolution, **sizes)), seed, by_fan=True)


def shaken(net, seed: int, by_fan: bool = False):
    """The net with random numbers everywhere; `by_fan` keeps those of plain convolutions small."""
    draw = torch.Generator().manual_seed(seed)
    for name, value in net.state_dict().items():
        noise = torch.randn(value.shape, generator=draw)
        if by_fan and value.ndim == 4:
            noise *= (2 / value[0].numel()) ** 0.5
        value.copy_(0.5 + noise.abs() if name.endswith("running_var") else noise)
    return net.eval().requires_grad_(False)


# ---- rosinality

def rosinality_generator(state: dict) -> OrderedDict:
    """`g_ema` of rosinality's program; `mapping.w_avg` is not in it."""
    theirs = OrderedDict()
    for key, value in state.items():
        if match := re.fullmatch(r"mapping\.fc(\d+)\.(\w+)", key):
            theirs[f"style.{int(match[1]) + 1}.{match[2]}"] = value
        elif key == "synthesis.b4.const":
            theirs["input.input"] = value[None]
        elif match := re.fullmatch(r"synthesis\.b(\d+)\.(conv0|conv1|torgb)\.(.+)", key):
            log, kind, leaf = int(math.log2(int(match[1]))), match[2], match[3]
            number = log - 2 if kind == "torgb" else 2 * log - 5 + (kind == "conv1")
            first, more = ("to_rgb1", "to_rgbs") if kind == "torgb" else ("conv1", "convs")
            layer = f"{more}.{number - 1}" if number else first
            if kind == "torgb" and number:
                theirs[f"{layer}.upsample.kernel"] = FIR * 4
            if kind == "conv0":
                theirs[f"{layer}.conv.blur.kernel"] = FIR * 4
            if leaf == "weight":
                theirs[f"{layer}.conv.weight"] = value[None]
            elif leaf.startswith("affine."):
                theirs[f"{layer}.conv.modulation.{leaf.removeprefix('affine.')}"] = value
            elif leaf == "noise_const":
                theirs[f"noises.noise_{number}"] = value[None, None]
            elif leaf == "noise_strength":
                theirs[f"{layer}.noise.weight"] = value.reshape(1)
            elif kind == "torgb":
                theirs[f"{layer}.bias"] = value.reshape(1, 3, 1, 1)
            else:
                theirs[f"{layer}.activate.bias"] = value
    return theirs


def rosinality_discriminator(state: dict) -> OrderedDict:
    top = max(int(match[1]) for key in state if (match := re.match(r"b(\d+)\.", key)))
    names = {"from_rgb.weight": "convs.0.0.weight", "from_rgb.bias": "convs.0.1.bias", "conv.weight":
             "final_conv.0.weight", "conv.bias": "final_conv.1.bias", "fc.weight": "final_linear.0.weight",
             "fc.bias": "final_linear.0.bias", "out.weight": "final_linear.1.weight", "out.bias": "final_linear.1.bias"}
    leaves = {"conv0.weight": "conv1.0.weight", "conv0.bias": "conv1.1.bias", "conv1.weight": "conv2.1.weight",
              "conv1.bias": "conv2.2.bias", "skip.weight": "skip.1.weight"}
    theirs = OrderedDict()
    for key, value in state.items():
        if key in names:
            theirs[names[key]] = value
            continue
        block, leaf = key.split(".", 1)
        layer = f"convs.{1 + int(math.log2(top // int(block[1:])))}"
        theirs[f"{layer}.{leaves[leaf]}"] = value
        theirs[f"{layer}.conv2.0.kernel"] = theirs[f"{layer}.skip.0.kernel"] = FIR
    return theirs


def e4e(encoder_state: dict, generator_state: dict) -> dict:
    """As e4e's coach saves: both networks in one state dict, the mean code repeated for each layer."""
    theirs = OrderedDict((f"decoder.{k}", v) for k, v in rosinality_generator(generator_state).items())
    for key, value in encoder_state.items():
        if key != "w_avg":
            theirs[f"encoder.{key}"] = value
        if key.endswith("running_var"):
            theirs[f"encoder.{key.removesuffix('running_var')}num_batches_tracked"] = torch.tensor(7)
    options = {"encoder_type": "Encoder4Editing", "stylegan_size": 32, "start_from_latent_avg": True,
               "device": "cuda:0", "checkpoint_path": None, "learning_rate": 0.0001}
    return {"state_dict": theirs, "opts": options, "latent_avg": encoder_state["w_avg"]}


# ---- NVIDIA

def nvidia_discriminator(state: dict) -> dict:
    top = max(int(match[1]) for key in state if (match := re.match(r"b(\d+)\.", key)))
    return {(f"b{top}.fromrgb.{key.removeprefix('from_rgb.')}" if key.startswith("from_rgb.") else
             key if re.match(r"b\d+\.", key) else f"b4.{key}"): value for key, value in state.items()}


@contextlib.contextmanager
def planted():
    """Modules with the names that NVIDIA's pickles mention, for as long as one is written."""
    modules = {name: types.ModuleType(name) for name in (
        "torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util", "dnnlib.tflib", "dnnlib.tflib.network")}

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("the pickle was run")

    class EasyDict(dict):
        pass

    class Network:
        def __init__(self, state):
            self.state = state

        def __getstate__(self):
            return self.state

    for thing, name in ((_reconstruct_persistent_obj, "torch_utils.persistence"), (EasyDict, "dnnlib.util"),
                        (Network, "dnnlib.tflib.network")):
        thing.__module__, thing.__qualname__ = name, thing.__name__
        setattr(modules[name], thing.__name__, thing)
    kept = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield types.SimpleNamespace(reconstruct=_reconstruct_persistent_obj, EasyDict=EasyDict, Network=Network)
    finally:
        for name, module in kept.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class _Persistent:
    """An object that pickles as torch_utils.persistence does: a function, and a dict with the class' source in it."""

    def __init__(self, reconstruct, name: str, state: dict):
        meta = {"type": "class", "version": 6, "module_src": "import os\nos.system('touch canary')\n",
                "class_name": name, "state": state}
        self.reduced = (reconstruct, (meta,))

    def __reduce__(self):
        return self.reduced


def _module(state: dict, planted, name: str, clamp: float | None = None):
    """A tree of modules from a flat state dict; buffers and parameters are told apart by NVIDIA's names."""
    buffers = ("noise_const", "resample_filter", "w_avg")
    own = {"training": False, "_parameters": OrderedDict(), "_buffers": OrderedDict(), "_modules": OrderedDict(),
           "_non_persistent_buffers_set": set(), "_backward_hooks": OrderedDict(),
           "_init_kwargs": planted.EasyDict(conv_clamp=64), "name": name}
    if "weight" in state and name not in ("Affine", "Skip"):
        own["conv_clamp"] = clamp
    children: dict[str, dict] = {}
    for key, value in state.items():
        child, dot, rest = key.partition(".")
        if dot:
            children.setdefault(child, {})[rest] = value
        elif key in buffers:
            own["_buffers"][key] = value
        else:
            own["_parameters"][key] = torch.nn.Parameter(value)
    if "noise_const" in state:
        own["_buffers"]["resample_filter"] = FIR
        own["_buffers"]["scratch"] = torch.zeros(2)
        own["_non_persistent_buffers_set"].add("scratch")
    for child, inner in children.items():
        own["_modules"][child] = _module(inner, planted, child.title(), clamp)
    return _Persistent(planted.reconstruct, name, own)


def write_nvidia(path, generator_state: dict, discriminator_state: dict | None = None, protocol: int = 4,
                 clamp: float | None = None) -> None:
    """A snapshot of stylegan2-ada-pytorch: G, D, G_ema, the data's options and an augmentation pipe."""
    with planted() as names, open(path, "wb") as file:
        d = nvidia_discriminator(discriminator_state) if discriminator_state else None
        tree = {"training_set_kwargs": names.EasyDict(class_name="training.dataset.ImageFolderDataset"),
                "augment_pipe": _module({"p": torch.tensor(0.2)}, names, "AugmentPipe"),
                "G_ema": _module(generator_state, names, "Generator", clamp), "G": None,
                "D": d and _module(d, names, "Discriminator", clamp)}
        pickle.dump(tree, file, protocol=protocol)


# ---- the TensorFlow original

def _numpy(value: torch.Tensor, *axes: int) -> np.ndarray:
    return np.ascontiguousarray(value.numpy().transpose(axes) if axes else value.numpy())


def tensorflow_generator(state: dict) -> dict[str, np.ndarray]:
    """Variables of `Gs` by their full names: kernels [K,K,I,O], those of up-convolutions turned round."""
    theirs = {}
    for key, value in state.items():
        if key == "mapping.w_avg":
            theirs["dlatent_avg"] = _numpy(value)
        elif match := re.fullmatch(r"mapping\.fc(\d+)\.(\w+)", key):
            theirs[f"mapping/Dense{match[1]}/{match[2]}"] = _numpy(value.t() if match[2] == "weight" else value)
        elif key == "synthesis.b4.const":
            theirs["synthesis/4x4/Const/const"] = _numpy(value[None])
        elif match := re.fullmatch(r"synthesis\.b(\d+)\.(conv0|conv1|torgb)\.(.+)", key):
            r, layer, leaf = int(match[1]), match[2], match[3]
            name = {"conv0": "Conv0_up", "conv1": "Conv" if r == 4 else "Conv1", "torgb": "ToRGB"}[layer]
            prefix = f"synthesis/{r}x{r}/{name}"
            if leaf == "noise_const":
                number = 2 * int(math.log2(r)) - 4 - (layer == "conv0")
                theirs[f"synthesis/noise{number}"] = _numpy(value[None, None])
            elif leaf == "noise_strength":
                theirs[f"{prefix}/noise_strength"] = np.float32(value)
            elif leaf == "weight":
                kernel = _numpy(value, 2, 3, 1, 0)
                theirs[f"{prefix}/weight"] = np.ascontiguousarray(kernel[::-1, ::-1]) if layer == "conv0" else kernel
            elif leaf == "affine.weight":
                theirs[f"{prefix}/mod_weight"] = _numpy(value, 1, 0)
            elif leaf == "affine.bias":
                theirs[f"{prefix}/mod_bias"] = _numpy(value) - 1
            else:
                theirs[f"{prefix}/bias"] = _numpy(value)
    return theirs


def tensorflow_discriminator(state: dict) -> dict[str, np.ndarray]:
    top = max(int(match[1]) for key in state if (match := re.match(r"b(\d+)\.", key)))
    layers = {"from_rgb": f"{top}x{top}/FromRGB", "conv": "4x4/Conv", "fc": "4x4/Dense0", "out": "Output"}
    theirs = {}
    for key, value in state.items():
        layer, leaf = key.rsplit(".", 1)
        if match := re.fullmatch(r"b(\d+)\.(\w+)", layer):
            kind = {"conv0": "Conv0", "conv1": "Conv1_down", "skip": "Skip"}[match[2]]
            layers[layer] = f"{match[1]}x{match[1]}/{kind}"
        axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: ()}[value.ndim]
        theirs[f"{layers[layer]}/{leaf}"] = _numpy(value, *axes)
    return theirs


def write_tensorflow(path, generator_state: dict, discriminator_state: dict, protocol: int = 4) -> None:
    """G, D, Gs as the first StyleGAN2 pickled them."""
    with planted() as names, open(path, "wb") as file:
        def network(name: str, variables: dict) -> object:
            parts: dict[str, dict] = {"mapping": {}, "synthesis": {}}
            own = {}
            for key, value in variables.items():
                part, _, rest = key.partition("/")
                (parts[part] if part in parts else own)[rest if part in parts else key] = value
            components = names.EasyDict((part, network(part, inner)) for part, inner in parts.items() if inner)
            return names.Network({"version": 4, "name": name, "static_kwargs": names.EasyDict(fused_modconv=True),
                                  "components": components, "build_module_src": "import os\nos.system('touch canary')",
                                  "build_func_name": name, "variables": list(own.items())})

        g = {**tensorflow_generator(generator_state), "lod": np.float32(0)}
        tree = (network("G", g), network("D", tensorflow_discriminator(discriminator_state)), network("Gs", g))
        pickle.dump(tree, file, protocol=protocol)


def write_files(folder, generator, discriminator, encoder):
    """Writes gan.pt (generator, discriminator), plain.pt (generator), e4e.pt (encoder and the same generator)."""
    g, d, e = (net.state_dict() for net in (generator, discriminator, encoder))
    ours = rosinality_generator(g)
    torch.save({"g_ema": ours, "d": rosinality_discriminator(d), "latent_avg": g["mapping.w_avg"]}, folder / "gan.pt")
    torch.save({"g_ema": ours, "latent_avg": g["mapping.w_avg"]}, folder / "plain.pt")
    e["w_avg"].copy_(g["mapping.w_avg"].expand_as(e["w_avg"]))
    torch.save(e4e(e, g), folder / "e4e.pt")
    return folder
