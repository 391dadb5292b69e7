"""A picture as numbers, for comparing sets of pictures: extractors by name, and a cache by content.

Every extractor says its name, how it resizes, and what its numbers depend on; a figure is told with the first two.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch

from sigan import checkpoints, images, runtime, weights
from sigan.errors import ConfigError
from sigan.identity import Identity
from sigan.nets.inception import Inception
from sigan.nets.squeezenet import SqueezeNet

if TYPE_CHECKING:
    from sigan.bases import Base

NAMES = ("inception", "squeezenet", "dlib", "encoder", "discriminator")
SQUEEZENET_SIDE = 256  # pixels; larger pictures are shrunk to it
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of torchvision's models
CAFFE_MEAN = (104.0, 117.0, 123.0)  # of Caffe's, in the order blue, green, red
CACHE = "features.sqlite"
Net = TypeVar("Net", bound=torch.nn.Module)


class Extractor(Protocol):
    """`name` and `resize` are told with every figure; pictures of equal `key` and content give equal numbers."""

    name: str
    resize: str
    key: str

    def __call__(self, image: np.ndarray) -> np.ndarray | None:
        """float32 [D] of uint8 [H,W,3]; None where there is nothing to describe (no face)."""
        ...


class InceptionFeatures:
    """The 2048 numbers that FID and KID are defined on, as torch-fidelity takes them; any size of picture."""

    name = "inception"
    resize = "299 px, as TensorFlow 1"

    def __init__(self, net: Inception, key: str, device: torch.device | str = "cpu") -> None:
        self.net, self.key, self.device = net.to(device).eval().requires_grad_(False), key, device

    def __call__(self, image: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None]
        with torch.inference_mode():
            return self.net(x)[0].cpu().numpy()


class SqueezeNetFeatures:
    """SqueezeNet's last 512 channels, averaged over the picture; `caffe` weights want Caffe's input.

    `activations` are what stands at each place of the net, for pictures [N,3,H,W] of 0 to 255.
    """

    resize = f"{SQUEEZENET_SIDE} px, Lanczos"

    def __init__(self, net: SqueezeNet, key: str, caffe: bool = False, device: torch.device | str = "cpu") -> None:
        self.net, self.key, self.caffe, self.device = net.to(device).eval().requires_grad_(False), key, caffe, device
        self.name = "squeezenet (Caffe release)" if caffe else "squeezenet"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(images.resize(image, SQUEEZENET_SIDE)).to(self.device).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            return self.net(self._given(x))[0].cpu().numpy()

    def activations(self, x: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        return self.net.activations(self._given(x))

    def _given(self, x: torch.Tensor) -> torch.Tensor:
        if self.caffe:
            return x.flip(1) - x.new_tensor(CAFFE_MEAN).view(1, 3, 1, 1)
        return (x / 255 - x.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / x.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)


class DlibFeatures:
    """Who is in the picture, 128 numbers: sets are compared by their people, not by their style."""

    name = "dlib"
    resize = "150 px around the face"

    def __init__(self, identity: Identity) -> None:
        self.identity, self.key = identity, "dlib"

    def __call__(self, image: np.ndarray) -> np.ndarray | None:
        found = self.identity.descriptor(image)
        return None if found is None else np.float32(found)


class BaseFeatures:
    """What a base's own net sees: the mean over layers of its encoder's codes, or its discriminator's last features."""

    def __init__(self, base: Base, part: str) -> None:
        self.base, self.discriminator = base, base.discriminator if part == "discriminator" else None
        if part == "discriminator" and self.discriminator is None:
            raise ConfigError(f"the base {base.name} has no discriminator", "choose other --features, such as encoder")
        self.name = f"{part} of {base.name}"
        self.resize = f"{base.resolution} px, Lanczos"
        self.key = f"{part}:{base.name}:{base.hash}"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        x = images.to_batch([images.resize(image, self.base.resolution)], self.base.device)
        with torch.inference_mode():
            if self.discriminator is None:
                return self.base.encoder(x, 1.0)[0].mean(0).cpu().numpy()
            return self.discriminator.features(x)[-1][0].mean((1, 2)).cpu().numpy()


def squeezenet(file: str = "", device: torch.device | str = "cpu") -> SqueezeNetFeatures:
    """SqueezeNet as pulled, or of a file of its weights; WeightsError where they are missing or do not fit."""
    path = Path(file) if file else weights.path("squeezenet")
    net, content = _filled(SqueezeNet(), path), path.read_bytes()
    about = weights.metadata(content) if path.suffix == ".safetensors" else {}
    return SqueezeNetFeatures(net, _key("squeezenet", content), about.get("input", "").startswith("BGR"), device)


def load(name: str, *, identity: Identity, base: Callable[[], Base], device: torch.device | str = "cpu") -> Extractor:
    """The extractor of that name: one of NAMES, or `squeezenet:FILE` for weights of one's own.

    ConfigError on another name, WeightsError where its weights are missing or do not fit.
    """
    kind, _, file = name.partition(":")
    if kind not in NAMES or (file and kind != "squeezenet"):
        raise ConfigError(f"features are {name!r}", f"choose from {', '.join(NAMES)}, or squeezenet:FILE")
    if kind == "dlib":
        return DlibFeatures(identity)
    if kind in ("encoder", "discriminator"):
        return BaseFeatures(base(), kind)
    if kind == "squeezenet":
        return squeezenet(file, device)
    path = weights.path("fid-inception")
    return InceptionFeatures(_filled(Inception(), path), _key(kind, path.read_bytes()), device)


def _key(kind: str, content: bytes) -> str:
    return f"{kind}:{hashlib.sha256(content).hexdigest()}"


def _filled(net: Net, path: Path) -> Net:
    """The net with a file's weights; what comes after the features is not used."""
    state = {k: v.float() if v.is_floating_point() else v for k, v in checkpoints.read_state(path).items()
             if not k.startswith(("fc.", "classifier."))}
    weights.load_strict(net, state, str(path), "name a file of these weights")
    return net


# ---- the cache

class Cache:
    """Numbers by content and extractor in one SQLite file; an unusable file is no cache, never a failure."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or runtime.home() / "cache" / CACHE
        self._connection = self._open()

    def _open(self) -> sqlite3.Connection | None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
            return connection
        except (OSError, sqlite3.Error):
            return None

    def get(self, digest: str, key: str, compute: Callable[[], np.ndarray | None]) -> np.ndarray | None:
        """What `compute` gives for the picture of this digest: float32, any shape; remembered, the lack of it too."""
        name = f"{digest}:{key}"
        known = self._read(name)
        if known is not None:
            return known if known.size else None
        value = compute()
        self._write(name, np.zeros(0, np.float32) if value is None else np.asarray(value, np.float32))
        return None if value is None else np.asarray(value, np.float32)

    def _read(self, name: str) -> np.ndarray | None:
        try:
            row = self._connection and self._connection.execute("SELECT value FROM features WHERE key = ?",
                                                                (name,)).fetchone()
            return np.frombuffer(row[0], np.float32) if row else None
        except (sqlite3.Error, ValueError):
            return None

    def _write(self, name: str, value: np.ndarray) -> None:
        try:
            if self._connection:
                self._connection.execute("INSERT OR REPLACE INTO features VALUES (?, ?)", (name, value.tobytes()))
        except sqlite3.Error:
            self._connection = None

    def close(self) -> None:
        """Lets the file go."""
        if self._connection:
            self._connection.close()
            self._connection = None


def digest(image: np.ndarray) -> str:
    """The sha256 of a picture's size and pixels: equal for equal pictures, whatever their files."""
    return hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
