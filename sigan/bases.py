"""Base: a face model = generator + discriminator + encoder + alignment facts + licence.

A base is a folder of safetensors files, one a net, each with its sizes as JSON under "config" in the metadata. `mini`
is embedded (fp16); other packages bring theirs through an entry point of the group `sigan.bases`, a callable that
returns the folder; imported and pulled ones lie in `home()/bases/<name>`, in fp32, with `base.json` beside them.
Their files are mapped into memory, not read: a net is there at once, and its weights when they are used.
Reading names and facts imports no torch.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, overload

from sigan import downloads, plugins, runtime, weights
from sigan.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sigan.nets.compact_encoder import CompactEncoder
    from sigan.nets.discriminator import Discriminator
    from sigan.nets.e4e import E4eEncoder
    from sigan.nets.stylegan2 import Generator

    Net = Generator | Discriminator | CompactEncoder | E4eEncoder

log = logging.getLogger(__name__)
GROUP = "sigan.bases"
NETS = ("generator", "discriminator", "encoder")
RECORD = "base.json"  # of an imported base: its files, sources and terms; written last
ALIGNMENT = {"frame": "ffhq", "landmarks": 68}  # how faces are cut (alignment.py); no base here knows another frame
# what a file's metadata call it -> module, class, configuration; a file without "kind" holds the first of its part
KINDS = {
    "generator": ("sigan.nets.stylegan2", "Generator", "GeneratorConfig"),
    "discriminator": ("sigan.nets.discriminator", "Discriminator", "DiscriminatorConfig"),
    "encoder": ("sigan.nets.compact_encoder", "CompactEncoder", "EncoderConfig"),
    "e4e": ("sigan.nets.e4e", "E4eEncoder", "E4eConfig"),
}
REINSTALL = "reinstall the package that brings it: `pip install --force-reinstall sigan`"


class Missing:
    """Stands where a base has no such net; using it is a WeightsError that says how to get one."""

    def __init__(self, base: str, part: str, remedy: str):
        self.base, self.part, self.remedy = base, part, remedy

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise WeightsError(f"base '{self.base}' has no {self.part}", self.remedy)


@dataclass(eq=False)
class Base:
    """A loaded face model; its nets are in evaluation mode and frozen.

    `hash` is the sha256 of the generator's file: packs name it. `discriminator` is None where the base has none;
    `encoder` is a callable that raises then.
    """

    name: str
    generator: Generator = field(repr=False)
    discriminator: Discriminator | None = field(repr=False)
    encoder: Callable[[Tensor, float], Tensor] = field(repr=False)
    hash: str
    licence: str
    device: torch.device | str = "cpu"
    alignment: dict[str, Any] = field(default_factory=lambda: dict(ALIGNMENT))

    @property
    def resolution(self) -> int:
        return self.generator.config.resolution

    @property
    def num_ws(self) -> int:
        return self.generator.num_ws

    @property
    def w_dim(self) -> int:
        return self.generator.config.w_dim

    def sample(self, n: int, seed: int = 0, truncation: float = 0.7) -> Tensor:
        """Codes of faces of nobody; the i-th depends on seed and i alone.  -> [N,L,C]"""
        import torch

        if n < 1:
            raise ConfigError(f"n is {n}; it must be 1 or more")
        draw = torch.Generator().manual_seed(seed)
        z = torch.stack([torch.randn(self.generator.config.z_dim, generator=draw) for _ in range(n)])
        with torch.no_grad():
            return self.generator.codes(z.to(self.device), truncation)


@dataclass(frozen=True)
class BaseFacts:
    """What is known of a base without loading it; `values` counts each net's numbers, `bytes` is on disk."""

    name: str
    resolution: int
    num_ws: int
    w_dim: int
    licence: str
    hash: str
    origin: str  # the package, or "home"
    values: dict[str, int]
    bytes: int
    encoder: str  # its kind
    sources: list[dict[str, Any]]


# ---- which there are

def mini() -> Path:
    """The folder of the embedded base."""
    return Path(__file__).parent / "assets" / "mini"


def home() -> Path:
    """Where imported bases lie."""
    return runtime.home() / "bases"


def names() -> list[str]:
    """The bases at hand: the embedded one, those of packages, those imported."""
    mine = sorted(path.parent.name for path in home().glob(f"*/{RECORD}") if not path.parent.name.startswith("."))
    return list(dict.fromkeys([*plugins.entries(GROUP), *mine]))


def find(name: str) -> Path:
    """The folder of the base of that name; a package's comes first. ConfigError when there is none."""
    mine = home() / name
    if name not in plugins.entries(GROUP):
        if "/" not in name and (mine / RECORD).is_file():
            return mine
        if name == "ffhq":
            raise WeightsError("base 'ffhq' is not here",
                               "`sigan bases pull ffhq`, or `sigan bases import FILE` with a file fetched by hand")
    bring = plugins.load(GROUP, name)
    folder = bring() if callable(bring) else None
    if not isinstance(folder, (str, Path)):
        plugin = plugins.find(GROUP, name)
        raise ConfigError(f"{plugin} gives no folder", plugin.remedy())
    return Path(folder)


def record(folder: Path) -> dict[str, Any]:
    """The content of an imported base's `base.json`; empty for a package's. WeightsError when it is damaged."""
    try:
        known = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if not isinstance(known["files"]["generator"]["sha256"], str):
            raise TypeError("no sha256")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder / RECORD} is damaged: {error}", _remedy(folder)) from error
    return known


def facts(name: str) -> BaseFacts:
    """What a base's file headers tell, without torch. WeightsError when its files are not whole."""
    folder = find(name)
    known, headers = record(folder), {}
    for part in _parts(folder, known):
        path = folder / f"{part}.safetensors"
        try:
            weights.check_whole(path)
            headers[part] = weights.read_header(path)
        except OSError as error:
            raise _unreadable(path, part, error) from error
        except WeightsError as error:
            raise WeightsError(error.message, _remedy(folder)) from error
    try:
        texts = {part: header.get("__metadata__", {}) for part, header in headers.items()}
        config = json.loads(texts["generator"]["config"])
        resolution, w_dim = config["resolution"], config.get("w_dim", 512)
        values = {part: _values(header) for part, header in headers.items()}
    except (KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{folder} holds no generator: {type(error).__name__}: {error}", _remedy(folder)) from error
    plugin = plugins.entries(GROUP).get(name)
    return BaseFacts(
        name, resolution, 2 * (resolution.bit_length() - 1) - 2, w_dim, texts["generator"].get("licence", ""),
        _hash(folder, known), plugin.package if plugin else "home", values,
        sum((folder / f"{part}.safetensors").stat().st_size for part in headers),
        texts["encoder"].get("kind", "encoder") if "encoder" in texts else "none", known.get("sources", []))


def _values(header: dict[str, Any]) -> int:
    total = 0
    for key, tensor in header.items():
        if key != "__metadata__":
            count = 1
            for size in tensor["shape"]:
                count *= size
            total += count
    return total


def _parts(folder: Path, known: dict[str, Any]) -> list[str]:
    """The nets a base has; one without a record has an encoder, too, and may lack a discriminator."""
    if known:
        return [part for part in NETS if part in known["files"]]
    return [part for part in NETS if part != "discriminator" or (folder / "discriminator.safetensors").exists()]


def _hash(folder: Path, known: dict[str, Any]) -> str:
    """The sha256 of the generator's file; taken from the record as long as the file is as it was recorded."""
    path = folder / "generator.safetensors"
    try:
        if not known:
            return downloads.sha256(path)
        kept, stat = known["files"]["generator"], path.stat()
        if (stat.st_size, stat.st_mtime_ns) == (kept["bytes"], kept.get("modified")):
            return kept["sha256"]
        if downloads.sha256(path) == kept["sha256"]:  # copied, or restored from a backup
            return kept["sha256"]
    except OSError as error:
        raise _unreadable(path, "generator", error) from error
    raise WeightsError(f"{path} is not the file that was imported: its sha256 is not {kept['sha256']}",
                       _remedy(folder))


def _unreadable(path: Path, part: str, error: OSError) -> WeightsError:
    return WeightsError(f"cannot read {part} weights {path}: {error.strerror or error}", _remedy(path.parent))


def _remedy(folder: Path) -> str:
    mine = folder.parent == home()
    return f"`sigan bases remove {folder.name}`, then pull or import it again" if mine else REINSTALL


# ---- loading

def load(name: str = "mini", device: torch.device | str = "cpu") -> Base:
    """The base of that name on a device. ConfigError when there is none, WeightsError when its files are not whole."""
    import torch

    folder = find(name)
    known = record(folder)
    present = _parts(folder, known)
    generator, text = _read(folder, "generator")
    discriminator = _read(folder, "discriminator")[0].to(device) if "discriminator" in present else None
    encoder = _read(folder, "encoder")[0].to(device) if "encoder" in present else Missing(
        name, "encoder", f"import one that belongs to it: `sigan bases import FILE --name {name}`")
    base = Base(name, generator.to(device), discriminator, encoder, _hash(folder, known), text.get("licence", ""),
                torch.device(device), {**ALIGNMENT, **known.get("alignment", {})})
    log.info("base %s: %d², hash %s…, on %s", name, base.resolution, base.hash[:12], base.device)
    return base


def read_net(path: Path, part: str) -> tuple[Net, str, str]:
    """The net in a file, the file's sha256 and the stated licence. One WeightsError lists all that does not fit."""
    net, text = _read_file(path, part)
    return net, downloads.sha256(path), text.get("licence", "")


@overload
def _read(folder: Path, part: Literal["generator"]) -> tuple[Generator, dict[str, str]]: ...
@overload
def _read(folder: Path, part: Literal["discriminator"]) -> tuple[Discriminator, dict[str, str]]: ...
@overload
def _read(folder: Path, part: Literal["encoder"]) -> tuple[CompactEncoder | E4eEncoder, dict[str, str]]: ...
def _read(folder: Path, part: str) -> tuple[Net, dict[str, str]]:
    return _read_file(folder / f"{part}.safetensors", part)


def _read_file(path: Path, part: str) -> tuple[Net, dict[str, str]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from sigan.nets.unfilled import Unfilled

    try:
        text = weights.read_header(path).get("__metadata__", {})
        kind = text.get("kind", part)
        if (kind not in KINDS) or (kind == "e4e" and part != "encoder") or (kind in NETS and kind != part):
            raise ValueError(f"it is of kind {kind!r}")
        module, net_name, config_name = KINDS[kind]
        config = getattr(import_module(module), config_name)(**json.loads(text["config"]))
        tensors = load_file(path)
    except OSError as error:
        raise _unreadable(path, part, error) from error
    except (SafetensorError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise WeightsError(f"{path} holds no {part}: {type(error).__name__}: {error}", _remedy(path.parent)) from error
    with Unfilled():
        net = getattr(import_module(module), net_name)(config)
    state = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    weights.load_strict(net, state, str(path), _remedy(path.parent))
    return net.eval().requires_grad_(False), text


def write_net(net: Net, path: Path, licence: str, half: bool = True) -> None:
    """Saves a net as `read_net` reads it, in fp16 unless told otherwise."""
    from safetensors.torch import save

    from sigan import images

    state = {k: (v.half() if half and v.is_floating_point() else v).detach().cpu().contiguous()
             for k, v in net.state_dict().items()}
    kind = next(kind for kind, (_, name, _) in KINDS.items() if name == type(net).__name__)
    text = {"config": json.dumps(net.config.to_dict()), "licence": licence, "kind": kind}
    images.atomic_write(path, save(state, text))


# ---- imported ones

def verify(name: str) -> dict[str, str]:
    """part -> sha256 of each of a base's files, all read. WeightsError naming every file that is not as recorded."""
    folder = find(name)
    known, digests, faults = record(folder), {}, []
    for part in _parts(folder, known):
        path = folder / f"{part}.safetensors"
        try:
            weights.check_whole(path)
            digests[part] = downloads.sha256(path)
        except OSError as error:
            raise _unreadable(path, part, error) from error
        except WeightsError as error:
            faults.append(error.message)
            continue
        wanted = known["files"][part]["sha256"] if known else digests[part]
        if digests[part] != wanted:
            faults.append(f"{path} is corrupt: its sha256 is {digests[part]}, not {wanted}")
    if faults:
        raise WeightsError("; ".join(faults), _remedy(folder))
    return digests


def remove(name: str) -> Path:
    """Deletes an imported base. ConfigError when it is a package's or unknown."""
    folder = home() / name
    if "/" in name or name.startswith(".") or not folder.is_dir():
        plugin = plugins.entries(GROUP).get(name)
        raise ConfigError(f"base '{name}' comes with the package {plugin.package}" if plugin else f"no base '{name}'",
                          f"`pip uninstall {plugin.package}`" if plugin else "`sigan bases list` shows them")
    with downloads.lock(folder) as take:
        while not take():
            pass
        (folder / RECORD).unlink(missing_ok=True)  # first: without it the rest is no base
        shutil.rmtree(folder)
    return folder
