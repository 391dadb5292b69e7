"""StylePack: one safetensors file = manifest + weight deltas + preview. Read, write, check, apply, blend.

The format is told in docs/style-packs.md. No code runs when a pack is read. Importing this module imports no torch, so
that `read_manifest` and `preview` stay cheap.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from sigan.errors import ConfigError, PackError
from sigan.manifest import (
    FETCH_AGAIN,
    FORMAT,
    KEY,
    PREVIEW_KEY,
    PREVIEWS,
    PackManifest,
    encode_preview,
    named,
    open_pack,
    preview,
    quoted,
    read_header,
    read_manifest,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from sigan.bases import Base

Net = TypeVar("Net", bound="nn.Module")

__all__ = ["FORMAT", "PREFIX", "PackManifest", "StylePack", "blend", "parse_blend", "preview", "read_manifest"]

PREFIX = "synthesis."  # the mapping network stays the base's, as in the authors' code
PREVIEW_FACES, PREVIEW_CELL, PREVIEW_QUALITY = 2, 192, 80  # the strip is near a square, as ModelSpec likes thumbnails
# Layers that turn features into colours; all the others draw. Why not by resolution: docs/style-packs.md, "Mixing".
COLOR_LAYERS = (".torgb.", ".canvas.chroma.")
CANVAS_GAIN, CANVAS_LUMA = "synthesis.canvas.gain", "synthesis.canvas.luma.weight"


@dataclass(frozen=True)
class StylePack:
    """A style: `deltas`, fp16 on the CPU by the generator's state key, to be added to the base `manifest` names.

    `packed` names the deltas that a file holds in four bits; `picture` is the preview strip, a PNG or WebP file.
    """

    manifest: PackManifest
    deltas: dict[str, Tensor] = field(repr=False)
    packed: frozenset[str] = field(default=frozenset(), repr=False)
    picture: bytes | None = field(default=None, repr=False)

    @classmethod
    def from_weights(cls, manifest: PackManifest, base_state: Mapping[str, Tensor],
                     tuned_state: Mapping[str, Tensor], compact: bool = True) -> StylePack:
        """The pack that turns `base_state` into `tuned_state`, both a generator's state_dict.

        compact: as `compacted`. PackError when the two are not of one network, when something outside the synthesis
        differs, or when a difference is no finite fp16 number (training diverged).
        """
        import torch

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
        pack = cls(manifest, deltas)
        return pack.compacted() if compact else pack

    def compacted(self) -> StylePack:
        """The pack as a small file holds it: large deltas rounded to four bits. Done once, it changes no more."""
        from sigan import deltas

        packed = frozenset(key for key, delta in self.deltas.items() if deltas.suits(delta))
        rounded, _ = deltas.decode(deltas.encode(self.deltas, packed))
        return replace(self, deltas=rounded, packed=packed)

    def illustrated(self, base: Base, seed: int = 0) -> StylePack:
        """The pack with a preview strip: faces that the base draws, each beside itself in this style."""
        import torch

        from sigan import images

        self.check(base)
        with torch.no_grad():
            ws = base.sample(PREVIEW_FACES, seed=seed)
            faces = base.generator.synthesis(ws)
            with self.apply(base.generator) as generator:
                results = generator.synthesis(ws)
        rows = [list(pair) for pair in zip(images.from_batch(faces), images.from_batch(results))]
        sheet = images.contact_sheet(rows, cell=min(base.resolution, PREVIEW_CELL))
        return replace(self, picture=images.encode(sheet, "webp", quality=PREVIEW_QUALITY))

    @cached_property
    def hash(self) -> str:
        """0x and the sha256 of the weights: two packs of one hash draw the same pictures."""
        return _tensor_hash(self._file({}))

    def save(self, path: str | Path) -> None:
        """One safetensors file, written whole or not at all. OutputError when it cannot be.

        PackError when the manifest or the preview is none that could be read again.
        """
        from sigan import images

        manifest = PackManifest.from_json(self.manifest.to_json())
        metadata = {KEY: manifest.to_json(), "modelspec.sai_model_spec": "1.0.1",
                    "modelspec.architecture": f"sigan/{manifest.base}-{manifest.base_resolution}/delta",
                    "modelspec.implementation": "sigan", "modelspec.title": manifest.name,
                    "modelspec.author": manifest.author, "modelspec.date": manifest.created,
                    "modelspec.license": manifest.licence, "modelspec.hash_sha256": self.hash}
        if self.picture is not None:
            metadata[PREVIEW_KEY] = encode_preview(self.picture)
        images.atomic_write(path, self._file(metadata))

    def _file(self, metadata: dict[str, str]) -> bytes:
        from safetensors.torch import save

        from sigan import deltas

        content = save(deltas.encode(self.deltas, self.packed), metadata)
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.dumps(json.loads(content[8:start]), sort_keys=True).encode()  # safetensors' order is by chance
        header += b" " * (-len(header) % 8)
        return len(header).to_bytes(8, "little") + header + content[start:]

    @classmethod
    def load(cls, path: str | Path) -> StylePack:
        """The pack in a file, verified against its own hash. PackError naming the file when it is not one."""
        file, size = open_pack(path)
        with file:
            try:
                return cls._read(file, size)
            except PackError as error:
                raise named(path, error) from error
            except OSError as error:
                raise PackError(f"cannot read pack {path}: {error.strerror or error}", FETCH_AGAIN) from error

    @classmethod
    def _read(cls, file: BinaryIO, size: int) -> StylePack:
        from safetensors import SafetensorError
        from safetensors.torch import load

        from sigan import deltas, images

        header = read_header(file, size)
        manifest, picture = header.manifest, header.preview
        stray = sorted(key for key in header.tensors if not key.removeprefix(deltas.SCALE).startswith(PREFIX))
        if stray:
            raise PackError(f"not synthesis weights: {', '.join(stray[:8])}", FETCH_AGAIN)
        file.seek(0)
        data = file.read(size)
        stated = header.metadata.get("modelspec.hash_sha256")
        if stated != _tensor_hash(data):
            raise PackError(f"is corrupt: its weights do not have the hash it states, {quoted(stated)}", FETCH_AGAIN)
        if picture is not None and not images.decodes(picture, PREVIEWS):
            raise PackError("the pack's preview cannot be read as a picture", FETCH_AGAIN)
        try:
            found, packed = deltas.decode(load(data))
        except (SafetensorError, ValueError) as error:
            raise PackError(f"is no valid safetensors file: {quoted(str(error))}", FETCH_AGAIN) from error
        pack = cls(manifest, found, packed, picture)
        pack.__dict__["hash"] = stated  # as just computed
        return pack

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
    def apply(self, generator: Net, strength: float = 1.0, structure: float = 1.0, color: float = 1.0) -> Iterator[Net]:
        """The generator in this style inside the `with`, bit for bit as it was after it. Amounts as in `dress`."""
        import torch

        state = generator.state_dict()
        self._check_weights(state)
        kept = {key: state[key].clone() for key in self.deltas}
        try:
            self.dress(generator, strength=strength, structure=structure, color=color)
            yield generator
        finally:
            state = generator.state_dict()  # anew: the generator may have moved to another device
            with torch.no_grad():
                for key, tensor in kept.items():
                    state[key].copy_(tensor)

    def dress(self, generator: nn.Module, base_state: Mapping[str, Tensor] | None = None, *, strength: float = 1.0,
              structure: float = 1.0, color: float = 1.0) -> None:
        """Sets the generator's weights to those of the base (default: its own) and the deltas' share, for good.

        `strength` 0 is the base, 1 the style as trained; `structure` and `color` scale it once more in the layers that
        draw and in those that colour. Weights the pack lacks are not touched. PackError when it does not fit.
        """
        import torch

        if not all(map(math.isfinite, (strength, structure, color))):
            raise ConfigError(f"strength {strength}, structure {structure}, color {color}: not all are numbers",
                              "0 is the base, 1 the full style")
        state = generator.state_dict()  # shares memory with the generator
        self._check_weights(state)
        source = state if base_state is None else base_state
        with torch.no_grad():
            for key, delta in self.deltas.items():
                share = strength * (color if any(part in key for part in COLOR_LAYERS) else structure)
                if key == CANVAS_GAIN:  # of luma's dimensions, then of chroma's
                    parts = torch.full((len(delta),), color)
                    parts[: state[CANVAS_LUMA].shape[1]] = structure
                    delta, share = delta * parts, strength
                torch.add(source[key], delta.to(state[key].device), alpha=share, out=state[key])

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
    shares: dict[str, list[tuple[Tensor, float]]] = {}
    for pack, weight in zip(packs, weights, strict=True):
        _check_shapes({key: delta.shape for key, delta in pack.deltas.items() if key in shares},
                      {key: parts[0][0] for key, parts in shares.items()}, f"pack '{pack.manifest.name}'")
        for key, delta in pack.deltas.items():
            shares.setdefault(key, []).append((delta, weight))
    deltas = {}
    for key, ((delta, weight), *others) in shares.items():  # weight by weight: a buffer that stays in the cache
        total = delta.float() * weight
        for other, share in others:
            total.add_(other, alpha=share)
        deltas[key] = total.half()
    manifests = [pack.manifest for pack in packs]
    name = "+".join(f"{m.name}:{weight:g}" for m, weight in zip(manifests, weights, strict=True))
    parts = [{"name": pack.manifest.name, "weight": float(weight), "hash": pack.hash, "recipe": pack.manifest.recipe,
              "licence": pack.manifest.licence} for pack, weight in zip(packs, weights, strict=True)]
    manifest = replace(first, name=name, recipe="blend", config={"parts": parts}, created="", card="", figures={},
                       steps=max(m.steps for m in manifests), references=sum(m.references for m in manifests),
                       author=_joined(m.author for m in manifests), licence=_joined(m.licence for m in manifests),
                       base_licence=_joined(m.base_licence for m in manifests),
                       references_licence=_joined(m.references_licence for m in manifests),
                       perceptual=_joined(m.perceptual for m in manifests))
    return StylePack(manifest, deltas)


def _check_shapes(shapes: Mapping[str, torch.Size], state: Mapping[str, Tensor], what: str) -> None:
    """PackError that lists every key the network lacks or has in another shape."""
    faults = [f"{key} is not in the generator" if key not in state else
              f"{key} is {list(shape)}, expected {list(state[key].shape)}"
              for key, shape in sorted(shapes.items()) if key not in state or state[key].shape != shape]
    if faults:
        raise PackError(f"{what} does not fit: {'; '.join(faults)}", "use the base it was trained for")


def _tensor_hash(data: bytes) -> str:
    """0x and the sha256 of all that follows the header, as ModelSpec has it."""
    return "0x" + hashlib.sha256(memoryview(data)[8 + int.from_bytes(data[:8], "little"):]).hexdigest()


def _weighted(part: str) -> tuple[str, float | None]:
    name, colon, weight = part.rpartition(":")
    try:
        return (name, float(weight)) if colon else (part, None)
    except ValueError:
        return part, None


def _joined(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(value for value in values if value))


_BLEND = "write NAME:WEIGHT+NAME:WEIGHT with weights within 0..1, as in watercolor:0.6+line:0.4"
