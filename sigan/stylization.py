"""Photographs to portraits in a style: a Stylizer loads once, then draws one face, a batch or a folder."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from sigan import alignment, bases, devices, images, inversion, pasting, stream, styles
from sigan.errors import ConfigError
from sigan.events import ItemDone
from sigan.runtime import resolve_device, resolve_dtype

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from sigan.alignment import AlignedFace
    from sigan.detection import Aligner
    from sigan.packs import StylePack

FACES = ("largest", "all")
AMOUNTS = ("strength", "structure", "color")  # of a style
KEPT_PACKS = 8  # loaded styles that a Stylizer remembers: 5 MB each on `mini`, 57 MB at 1024²
# Colour is taken over blurred to R/16, the size of an iris: shapes differ between photograph and drawing.
CHROMA_BLUR = 16


@dataclass(frozen=True, kw_only=True)
class StylizeConfig:
    """How to stylize. Strength 1 is the pack as trained, 0 the base; `refine` optimises the inversion N steps.

    `structure` and `color` scale the strength of what draws and of what colours, each alone. With `paste_back` a folder
    gives the pictures with the portraits in them.
    """

    base: str = "mini"
    strength: float = 1.0
    structure: float = 1.0
    color: float = 1.0
    keep_color: bool = False
    refine: int = 0  # the encoder alone: refinement costs seconds per face
    faces: str = ""  # largest, since photographs have people in the background; all with paste_back
    aligned: bool = False
    no_face: str = "fail"  # as in alignment.find
    paste_back: bool = False
    batch_size: int = 8  # beyond this the CPU gains nothing and memory grows
    device: str = "auto"
    dtype: str = "auto"
    seed: int = 0
    format: str = "png"  # lossless

    def __post_init__(self) -> None:
        for name in AMOUNTS:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be between 0 and 1")
        if self.refine < 0:
            raise ConfigError(f"refine is {self.refine}; it must be 0 or more steps")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}; it must be 1 or more")
        if not self.faces:
            object.__setattr__(self, "faces", "all" if self.paste_back else "largest")
        if self.faces not in FACES:
            raise ConfigError(f"faces is {self.faces!r}; it must be one of {', '.join(FACES)}")
        if self.no_face not in alignment.NO_FACE:
            raise ConfigError(f"no_face is {self.no_face!r}; it must be one of {', '.join(alignment.NO_FACE)}")
        if self.format not in images.FORMATS:
            raise ConfigError(f"format is {self.format!r}; it must be one of {', '.join(images.FORMATS)}")


class Changes(TypedDict, total=False):
    """What may change in a running Stylizer."""

    strength: float
    structure: float
    color: float
    keep_color: bool


class Stylizer:
    """Draws faces in one style at a time; `use` changes it.

    `style`: an installed pack's name, a path, a blend such as "ink:0.6+line:0.4", or a StylePack.
    """

    def __init__(self, style: str | StylePack, config: StylizeConfig | None = None) -> None:
        self.config = config or StylizeConfig()
        self.device = resolve_device(self.config.device)
        self.dtype = resolve_dtype(self.config.dtype, self.device)
        self._packs: dict[str, StylePack] = {}
        self._room = devices.Room()
        self.aligner = alignment.DlibAligner()  # for folders; it loads its models at the first picture
        self._worn: set[str] = set()  # the weights that are not the base's
        self.style, self.pack = style, self._load(style)  # before the base, which takes longer
        self.base = bases.load(self.config.base, device=self.device)
        self.pack.check(self.base)
        self.generator = copy.deepcopy(self.base.generator).eval().requires_grad_(False)
        self.use(style)

    def use(self, style: str | StylePack | None = None, **changes: Unpack[Changes]) -> None:
        """Goes on in another style, or with another `strength`, `structure`, `color` or `keep_color`, in milliseconds.

        A style is read once and remembered. An error (UnknownStyleError, PackError, ConfigError) changes nothing.
        """
        if unknown := sorted(set(changes) - set(Changes.__annotations__)):
            raise ConfigError(f"{', '.join(unknown)} cannot change in a running Stylizer", "make another Stylizer")
        config = replace(self.config, **changes)
        style = self.style if style is None else style
        pack = self._load(style)
        pack.check(self.base)
        bare, state = self.base.generator.state_dict(), self.generator.state_dict()
        pack.dress(self.generator, bare, **{name: getattr(config, name) for name in AMOUNTS})
        with torch.no_grad():
            for key in self._worn - set(pack.deltas):
                state[key].copy_(bare[key])
        self.style, self.pack, self.config, self._worn = style, pack, config, set(pack.deltas)

    def _load(self, style: str | StylePack) -> StylePack:
        if not isinstance(style, str):
            return style
        pack = self._packs.pop(style, None) or styles.load(style)
        self._packs[style] = pack
        while len(self._packs) > KEPT_PACKS:
            del self._packs[next(iter(self._packs))]  # the one not used for longest
        return pack

    @property
    def resolution(self) -> int:
        """Side of the faces it takes and draws, in pixels."""
        return self.base.resolution

    @property
    def identity(self) -> str:
        """A hash of all that decides a picture except the input: pack, base and options."""
        options = asdict(self.config)
        for free in ("batch_size", "device"):  # these do not change the picture
            del options[free]
        told = json.dumps(["stylize", self.pack.hash, self.base.hash, options], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def batch(self, x: torch.Tensor) -> torch.Tensor:
        """y [N,3,R,R] in about [-1,1], the portraits of the aligned faces x [N,3,R,R] in [-1,1]."""
        side = self.resolution
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, side, side):
            raise ConfigError(f"x is [N,3,R,R] with R = {side} here; got {list(x.shape)}", "resize the faces first")
        x = x.to(self.device)
        ws = inversion.invert(self.base, x, refine=self.config.refine, seed=self.config.seed)  # [N,L,C]
        half = self.dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self.device.type, dtype=self.dtype if half else None, enabled=half):
            y = self.generator.synthesis(ws.clone(), noise="const")
        return keep_color(y.float(), x) if self.config.keep_color else y.float()

    def arrays(self, faces: Sequence[AlignedFace | np.ndarray]) -> list[np.ndarray]:
        """The portraits uint8 [R,R,3] of aligned faces of any square size, in one batch or in what memory allows."""
        pixels = [images.resize(f if isinstance(f, np.ndarray) else f.image, self.resolution) for f in faces]
        return self._room.apply(self._draw, pixels)

    def _draw(self, pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The portraits of faces uint8 [R,R,3].

        On a processor each is computed alone, by one thread: sums then come in one order only, and a portrait has the
        same bytes in whatever batch, with any number of threads, here or on another machine of the kind.
        """
        x = images.to_batch(pixels)
        if self.device.type != "cpu":
            return images.from_batch(self.batch(x))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(min(threads, len(x))) as pool:
                return images.from_batch(torch.cat(list(pool.map(self.batch, x.split(1)))))
        finally:
            torch.set_num_threads(threads)

    def notes(self) -> list[str]:
        """What there is to tell since the last call: that a batch did not fit the memory, and what is done about it."""
        return self._room.notes()

    def stylize(self, face: AlignedFace | np.ndarray) -> Image.Image:
        """The portrait of one aligned face."""
        return Image.fromarray(self.arrays([face])[0])


def keep_color(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The drawing y [N,3,R,R] with its lightness kept and the colours of the photograph x [N,3,R,R], softened."""
    chroma = x - images.luma(x)  # [N,3,R,R], zero luma
    window = 2 * max(1, x.shape[-1] // CHROMA_BLUR // 2) + 1
    for _ in range(2):  # twice a box is near a triangle: no edges of its own
        chroma = F.avg_pool2d(chroma, window, stride=1, padding=window // 2, count_include_pad=False)
    return images.luma(y) + chroma


# ---- folders

def stylize_folder(
    stylizer: Stylizer,
    items: Sequence[stream.Item],
    out: str | Path,
    *,
    overwrite: bool = False,
    fail_fast: bool = False,
    retry_failed: bool = False,
    workers: int | None = None,
    aligner: Aligner | None = None,
    ledger: stream.Ledger | None = None,
) -> Iterator[ItemDone]:
    """One record per item as it finishes; portraits lie under `out`, and its ledger skips what is done and current.

    A device with no number, where there are several, means all: each draws a part of every batch.
    `overwrite`, `fail_fast`, `retry_failed` and `workers`: see `stream.process`.
    """
    config = stylizer.config
    prepare: Callable[[stream.Item], stream.Prepared[AlignedFace]] = stream.FaceFinder(
        stylizer.resolution, config.faces, aligner or stylizer.aligner, config.aligned, no_face=config.no_face)
    if config.paste_back:
        prepare = pasting.Pastable(prepare)

    stylizers = [stylizer] + [Stylizer(stylizer.style, replace(config, device=str(device)))
                              for device in devices.every(config.device)[1:]]
    arrays = devices.RoundRobin(one.arrays for one in stylizers)

    def compute(faces: list[AlignedFace]) -> list[tuple[AlignedFace, np.ndarray]]:
        return list(zip(faces, arrays(faces)))

    def save(item: stream.Item, drawn: list[tuple[AlignedFace, np.ndarray]]) -> list[Path]:
        if config.paste_back:
            return pasting.write(item, drawn, out, config.format)
        return stream.write_faces(item, [portrait for _, portrait in drawn], out, config.format)

    for record in stream.process(items, prepare, compute, save, ledger=ledger or stream.Ledger(out),
                                 identity=stylizer.identity, overwrite=overwrite, retry_failed=retry_failed,
                                 batch_size=config.batch_size * len(stylizers), fail_fast=fail_fast, workers=workers):
        told = tuple(note for one in stylizers for note in one.notes())
        yield replace(record, notes=record.notes + told) if told else record
