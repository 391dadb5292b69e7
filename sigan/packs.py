"""StylePack: one safetensors file = manifest + weight deltas. Read, write, check, apply, blend.

The tensors are `tuned - base` in fp16, only for the synthesis weights that differ. The metadata hold the manifest as
JSON under "sigan", and the `modelspec.*` keys that other tools show (https://github.com/Stability-AI/ModelSpec).
No code runs when a pack is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sigan import images, weights
from sigan.errors import ConfigError, PackError

if TYPE_CHECKING:
    from sigan.bases import Base

FORMAT = 1
PREFIX = "synthesis."  # the mapping network stays the base's, as in the authors' code


@dataclass(frozen=True)
class PackManifest:
    """What a pack is, what it belongs to, and how it was made; `config` is the recipe's full configuration."""

    name: str
    base: str
    base_hash: str  # sha256 of the base generator's file, hex
    base_resolution: int
    recipe: str
    config: dict
    seed: int
    steps: int
    references: int
    licence: str
    author: str = ""
    created: str = ""
    perceptual: str = ""  # the loss it was trained with
    format: int = FORMAT
    card: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> PackManifest:
        """The manifest of a JSON text. PackError on another format, or naming every field that is wrong."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise PackError(f"the pack's manifest is not JSON: {error}", _FETCH_AGAIN) from error
        if not isinstance(values, dict):
            raise PackError("the pack's manifest is not a JSON object", _FETCH_AGAIN)
        if values.get("format") != FORMAT:
            raise PackError(f"pack format {values.get('format')!r}; this sigan reads format {FORMAT}",
                            "`pip install --upgrade sigan`, or ask for the pack in this format")
        kinds = {"int": int, "str": str, "dict": dict}
        faults = [f"unknown {name}" for name in sorted(set(values) - {field.name for field in fields(cls)})]
        for field_ in fields(cls):
            if field_.name not in values:
                faults += [f"missing {field_.name}"] if field_.default is MISSING else []
            elif type(values[field_.name]) is not kinds[field_.type]:
                faults.append(f"{field_.name} is {values[field_.name]!r}, not {field_.type}")
        if faults:
            raise PackError(f"the pack's manifest is invalid: {'; '.join(faults)}", _FETCH_AGAIN)
        return cls(**values)


@dataclass(frozen=True)
class StylePack:
    """A style: `deltas`, fp16 on the CPU by the generator's state key, to be added to the base `manifest` names."""

    manifest: PackManifest
    deltas: dict[str, Tensor] = field(repr=False)

    @classmethod
    def from_weights(cls, manifest: PackManifest, base_state: Mapping[str, Tensor],
                     tuned_state: Mapping[str, Tensor]) -> StylePack:
        """The pack that turns `base_state` into `tuned_state`, both a generator's state_dict.

        PackError when the two are not of one network, when something outside the synthesis differs, or when a
        difference is no finite fp16 number (training diverged).
        """
        unpaired = sorted(set(base_state) ^ set(tuned_state))
        if unpaired:
            raise PackError(f"base and tuned weights are not of one network; unpaired: {', '.join(unpaired)}",
                            "pass two state_dicts of the same generator")
        _check_shapes({key: tensor.shape for key, tensor in tuned_state.items()}, base_state, "the tuned weights")
        changed = [key for key in base_state if not torch.equal(base_state[key].cpu(), tuned_state[key].cpu())]
        foreign = [key for key in changed if not key.startswith(PREFIX)]
        if foreign:
            raise PackError(f"a pack holds synthesis weights only, but these differ too: {', '.join(sorted(foreign))}",
                            "train with the mapping network frozen")
        deltas = {key: (tuned_state[key].detach().float() - base_state[key].detach().float()).cpu().half().contiguous()
                  for key in changed}
        wild = sorted(key for key, delta in deltas.items() if not delta.isfinite().all())
        if wild:
            raise PackError(f"the training of '{manifest.name}' diverged: no finite numbers in {', '.join(wild)}",
                            "train again with a lower --lr")
        return cls(manifest, deltas)

    @property
    def hash(self) -> str:
        """0x and the sha256 of the weights: two packs of one hash draw the same pictures."""
        return _tensor_hash(safetensors.torch.save(self.deltas))

    def save(self, path: str | Path) -> None:
        """One safetensors file, written whole or not at all. OutputError when it cannot be."""
        manifest = self.manifest
        metadata = {"sigan": manifest.to_json(), "modelspec.sai_model_spec": "1.0.1",
                    "modelspec.architecture": f"sigan/{manifest.base}-{manifest.base_resolution}/delta",
                    "modelspec.implementation": "sigan", "modelspec.title": manifest.name,
                    "modelspec.author": manifest.author, "modelspec.date": manifest.created,
                    "modelspec.license": manifest.licence, "modelspec.hash_sha256": self.hash}
        images.atomic_write(path, safetensors.torch.save(self.deltas, metadata))

    @classmethod
    def load(cls, path: str | Path) -> StylePack:
        """The pack in a file, verified against its own hash. PackError naming the file when it is not one."""
        path = Path(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise PackError(f"cannot read pack {path}: {error.strerror or error}",
                            "check the path; `sigan styles list` shows the installed ones") from error
        try:
            deltas = safetensors.torch.load(data)
        except (SafetensorError, ValueError) as error:
            raise PackError(f"{path} is no valid safetensors file: {error}", _FETCH_AGAIN) from error
        metadata = weights.metadata(data)
        if "sigan" not in metadata:
            raise PackError(f"{path} is a safetensors file, but no style pack: it has no sigan manifest",
                            "`sigan train` makes packs")
        try:
            manifest = PackManifest.from_json(metadata["sigan"])
        except PackError as error:
            raise PackError(f"{path}: {error.message}", error.hint) from error
        stated = metadata.get("modelspec.hash_sha256")
        if stated != _tensor_hash(data):
            raise PackError(f"{path} is corrupt: its weights do not have the hash it states, {stated}", _FETCH_AGAIN)
        faults = sorted(key for key, delta in deltas.items() if not key.startswith(PREFIX)
                        or delta.dtype != torch.float16 or not delta.isfinite().all())
        if faults:
            raise PackError(f"{path}: not finite fp16 synthesis weights: {', '.join(faults)}", _FETCH_AGAIN)
        return cls(manifest, deltas)

    def check(self, base: Base) -> None:
        """PackError when the pack belongs to another base than this one."""
        m = self.manifest
        if m.base_hash != base.hash:
            mine = f"base '{m.base}' {m.base_resolution}² (hash {m.base_hash[:8]}…)"
            yours = f"'{base.name}' {base.resolution}² (hash {base.hash[:8]}…)"
            hint = (f"the two are different editions of '{m.base}': get the pack made for this one, or train it anew"
                    if m.base == base.name else
                    f"use --base {m.base}, or train it for yours: sigan train {m.name} REFS... --base {base.name}")
            raise PackError(f"pack '{m.name}' belongs to {mine}, you use {yours}", hint)
        self._check_weights(base.generator.state_dict())

    @contextlib.contextmanager
    def apply(self, generator: nn.Module, strength: float = 1.0) -> Iterator[nn.Module]:
        """The generator in this style inside the `with`, bit for bit as it was after it."""
        state = generator.state_dict()
        self._check_weights(state)
        kept = {key: state[key].clone() for key in self.deltas}
        try:
            self.apply_inplace(generator, strength)
            yield generator
        finally:
            state = generator.state_dict()  # anew: the generator may have moved to another device
            with torch.no_grad():
                for key, tensor in kept.items():
                    state[key].copy_(tensor)

    def apply_inplace(self, generator: nn.Module, strength: float = 1.0) -> None:
        """Adds `strength` times the deltas to the generator, for good. PackError when they do not fit it."""
        if not math.isfinite(strength):
            raise ConfigError(f"strength {strength} is not a number", "0 is the base, 1 the full style")
        state = generator.state_dict()  # shares memory with the generator
        self._check_weights(state)
        with torch.no_grad():
            for key, delta in self.deltas.items():
                weight = state[key]
                weight.copy_(weight.float() + strength * delta.to(weight.device).float())

    def _check_weights(self, state: Mapping[str, Tensor]) -> None:
        _check_shapes({key: delta.shape for key, delta in self.deltas.items()}, state, f"pack '{self.manifest.name}'")


# Blends: "a:0.6+b:0.4"

def parse_blend(spec: str) -> list[tuple[str, float]]:
    """The (name or path, weight) pairs of "a:0.6+b:0.4"; "a" alone weighs 1, "a+b" gives equal shares."""
    if Path(spec).is_file():
        return [(spec, 1.0)]
    pairs = [_weighted(part.strip()) for part in spec.split("+")]
    given = [weight for _, weight in pairs if weight is not None]
    if not all(name for name, _ in pairs) or len(given) not in (0, len(pairs)):
        raise ConfigError(f"style '{spec}' is no blend", _BLEND)
    if not all(0 <= weight <= 1 for weight in given):
        raise ConfigError(f"weights of style '{spec}' are not within 0..1", _BLEND)
    return [(name, 1 / len(pairs) if weight is None else weight) for name, weight in pairs]


def blend(packs: Sequence[StylePack], weights: Sequence[float]) -> StylePack:
    """One pack: the weighted sum of the deltas. PackError when the packs belong to different bases."""
    if not packs or len(packs) != len(weights):
        raise ConfigError(f"a blend of {len(packs)} packs with {len(weights)} weights", _BLEND)
    first = packs[0].manifest
    for pack in packs[1:]:
        m = pack.manifest
        if m.base_hash != first.base_hash:
            raise PackError(f"packs '{first.name}' and '{m.name}' belong to different bases: '{first.base}' "
                            f"(hash {first.base_hash[:8]}…) and '{m.base}' (hash {m.base_hash[:8]}…)",
                            "blend packs of one base")
    deltas: dict[str, Tensor] = {}
    for pack, weight in zip(packs, weights, strict=True):
        shared = {key: delta.shape for key, delta in pack.deltas.items() if key in deltas}
        _check_shapes(shared, deltas, f"pack '{pack.manifest.name}'")
        for key, delta in pack.deltas.items():
            deltas[key] = deltas.get(key, 0) + weight * delta.float()
    manifests = [pack.manifest for pack in packs]
    name = "+".join(f"{m.name}:{weight:g}" for m, weight in zip(manifests, weights, strict=True))
    manifest = replace(first, name=name, recipe="blend", author=_joined(m.author for m in manifests),
                       config={"parts": [{**asdict(m), "weight": float(weight)}
                                         for m, weight in zip(manifests, weights, strict=True)]},
                       steps=max(m.steps for m in manifests), references=sum(m.references for m in manifests),
                       licence=_joined(m.licence for m in manifests), created="", card="",
                       perceptual=_joined(m.perceptual for m in manifests))
    return StylePack(manifest, {key: delta.half() for key, delta in deltas.items()})


def _check_shapes(shapes: Mapping[str, torch.Size], state: Mapping[str, Tensor], what: str) -> None:
    """PackError that lists every key the network lacks or has in another shape."""
    faults = [f"{key} is not in the generator" if key not in state else
              f"{key} is {list(shape)}, expected {list(state[key].shape)}"
              for key, shape in sorted(shapes.items()) if key not in state or state[key].shape != shape]
    if faults:
        raise PackError(f"{what} does not fit: {'; '.join(faults)}", "use the base it was trained for")


def _tensor_hash(data: bytes) -> str:
    """0x and the sha256 of all that follows the header, as ModelSpec has it."""
    return "0x" + hashlib.sha256(memoryview(data)[weights.header_size(data):]).hexdigest()


def _weighted(part: str) -> tuple[str, float | None]:
    name, colon, weight = part.rpartition(":")
    try:
        return (name, float(weight)) if colon else (part, None)
    except ValueError:
        return part, None


def _joined(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(value for value in values if value))


_FETCH_AGAIN = "fetch or train the pack again"
_BLEND = "write NAME:WEIGHT+NAME:WEIGHT with weights within 0..1, as in watercolor:0.6+line:0.4"
