"""Weight files: the catalogue of those that others publish, the cache, and what all weight files have in common.

A file of the catalogue comes from `fetch` or from `adopt` (one fetched by hand), and lies in `home()/weights`.
Where a sha256 is known it decides; where none is, the first file that proved whole is pinned.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigan import downloads, runtime
from sigan.errors import ConfigError, OfflineError, WeightsError
from sigan.events import Transfer

if TYPE_CHECKING:
    from torch import Tensor, nn

NVIDIA_LICENCE = "NVIDIA Source Code License (research and evaluation only)"
FFHQ_TERMS = f"{NVIDIA_LICENCE}; learned from FFHQ (CC BY-NC-SA 4.0)"
PINS = "pins.json"
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P"  # how files of torch before 1.6 begin: its magic number, pickled


@dataclass(frozen=True)
class WeightFile:
    """A file that others publish. `bytes` is exact where known, `about` is for showing; `sha256` may be a beginning."""

    name: str
    file: str
    urls: tuple[str, ...]
    about: int
    licence: str
    source: str  # the page to read, and to fetch the file by hand from
    purpose: str
    bytes: int | None = None
    sha256: str = ""


def _drive(key: str) -> str:
    """Google Drive's address of a public file, its question about the virus scan answered."""
    return f"https://drive.usercontent.google.com/download?id={key}&export=download&confirm=t"


# Sources: docs/weights.md. The two trunks and Inception are named after the first 8 digits of their sha256.
CATALOGUE = {entry.name: entry for entry in (
    WeightFile(
        "stylegan2-ffhq", "stylegan2-ffhq.pkl",
        ("https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/ffhq.pkl",),
        about=382 * 10**6, licence=FFHQ_TERMS, source="https://github.com/NVlabs/stylegan2-ada-pytorch",
        purpose="generator and discriminator of `ffhq`"),
    WeightFile(
        "stylegan2-ffhq-pt", "stylegan2-ffhq-config-f.pt",
        (_drive("1Yr7KuD959btpmcKGAUsbAk5rPjX2MytK"),),
        about=260 * 10**6, licence=FFHQ_TERMS, source="https://github.com/mchong6/JoJoGAN",
        purpose="the same, as rosinality's program saves it"),
    WeightFile(
        "e4e-ffhq", "e4e_ffhq_encode.pt",
        (_drive("1cUv_reLE6k3604or78EranS7XzuVMWeO"), _drive("1o6ijA3PkcewZvwJJ73dJ0fxhndn0nnh7"),
         "https://huggingface.co/AIRI-Institute/HairFastGAN/resolve/main/pretrained_models/encoder4editing/"
         "e4e_ffhq_encode.pt"),
        about=1200 * 10**6, licence=f"MIT (encoder); {FFHQ_TERMS}",
        source="https://github.com/omertov/encoder4editing", purpose="encoder of `ffhq`"),
    WeightFile(
        "lpips-vgg", "vgg16-397923af.pth", ("https://download.pytorch.org/models/vgg16-397923af.pth",),
        about=553_433_881, licence="BSD-3-Clause (torchvision); learned from ImageNet (non-commercial research)",
        source="https://pytorch.org/vision/stable/models/vgg.html", purpose="LPIPS in training and in reports",
        bytes=553_433_881, sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"),
    WeightFile(
        "lpips-alex", "alexnet-owt-7be5be79.pth", ("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
        about=244 * 10**6, licence="BSD-3-Clause (torchvision); learned from ImageNet (non-commercial research)",
        source="https://pytorch.org/vision/stable/models/alexnet.html", purpose="LPIPS in reports",
        sha256="7be5be79"),
    WeightFile(
        "squeezenet", "squeezenet1_1-b8a52dc0.pth", ("https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",),
        about=5 * 10**6, licence="BSD-3-Clause (torchvision); learned from ImageNet (non-commercial research)",
        source="https://pytorch.org/vision/stable/models/squeezenet.html", purpose="training and reports",
        sha256="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b"),
    WeightFile(
        "fid-inception", "pt_inception-2015-12-05-6726825d.pth",
        ("https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
         "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
         "weights-inception-2015-12-05-6726825d.pth"),
        about=95_628_359, licence="Apache-2.0 (TensorFlow models)", source="https://github.com/mseitzer/pytorch-fid",
        purpose="FID and KID in reports", bytes=95_628_359,
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"),
)}

# base -> for each file it needs, the catalogue's names of it, the best first
PULLED = {"ffhq": (("stylegan2-ffhq", "stylegan2-ffhq-pt"), ("e4e-ffhq",))}


def terms(licences: Iterable[str]) -> str:
    """The licences of several files as one text that says nothing twice; parts are divided by "; "."""
    return "; ".join(dict.fromkeys(part for licence in licences for part in licence.split("; ")))


# ---- the cache

def entry(name: str) -> WeightFile:
    """The catalogue's entry of that name. ConfigError with near names otherwise."""
    if name not in CATALOGUE:
        near = difflib.get_close_matches(name, CATALOGUE, n=3)
        raise ConfigError(f"no weights called '{name}'",
                          f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def files_of(name: str) -> list[list[WeightFile]]:
    """The files that pulling `name` needs, each with its alternatives. ConfigError with what there is otherwise."""
    if name in PULLED:
        return [[entry(file) for file in alternatives] for alternatives in PULLED[name]]
    if name in CATALOGUE:
        return [[entry(name)]]
    known = ", ".join([*PULLED, *CATALOGUE])
    raise ConfigError(f"nothing called '{name}' can be pulled", f"known: {known}")


def is_part(wanted: WeightFile) -> bool:
    """Whether a file of the catalogue is for a base, and of no use by itself."""
    return any(wanted.name in names for files in PULLED.values() for names in files)


def folder() -> Path:
    """Where the files of the catalogue lie."""
    return runtime.home() / "weights"


def has(name: str) -> bool:
    """Whether the file lies in the cache; nothing is read or downloaded."""
    return (folder() / entry(name).file).is_file()


def path(name: str) -> Path:
    """The cached file of that name, whole. WeightsError naming the command that gets it when there is none."""
    wanted = entry(name)
    found = folder() / wanted.file
    if not found.is_file():
        missing = OfflineError if downloads.offline() else WeightsError
        raise missing(f"the weights {name} ({wanted.purpose}, {wanted.about / 1e6:.0f} MB) are not here",
                      get_hint(name))
    if wanted.bytes is not None and found.stat().st_size != wanted.bytes:
        raise WeightsError(f"{found} has {found.stat().st_size} bytes instead of {wanted.bytes}",
                           f"`sigan bases remove {name}`, then `sigan bases pull {name}`")
    return found


def get_hint(name: str) -> str:
    """How to get a file of the catalogue, with and without the network."""
    return f"`sigan bases pull {name}`, or {by_hand(CATALOGUE[name])}"


def by_hand(*files: WeightFile) -> str:
    """How to get one of these files without sigan's downloads."""
    told = " or ".join(f"{wanted.file} (see {wanted.source})" for wanted in files)
    return f"fetch {told} in a browser and `sigan bases import FILE`"


def fetch(name: str, progress: Callable[[Transfer], None] = lambda record: None) -> Path:
    """The cached file of that name, downloaded if need be; `progress` is told how far it is. Errors as `pull`'s."""
    for record in pull(name):
        progress(record)
    return folder() / entry(name).file


def pull(name: str, remedy: str = "") -> Iterator[Transfer]:
    """Downloads a file of the catalogue into the cache; errors, with the remedy, are those of `downloads.download`."""
    wanted = entry(name)
    renewed = "" if wanted.sha256 else f" as before; if it was renewed, delete its line in {folder() / PINS}"
    yield from downloads.download(folder() / wanted.file, wanted.urls, size=wanted.bytes,
                                  digest=wanted.sha256 or pins().get(wanted.file, ""), prove=check_whole,
                                  remedy=remedy or by_hand(wanted), renewed=renewed)


def verify(name: str) -> str:
    """The sha256 of the cached file. WeightsError when it is not the known or pinned one."""
    wanted, found = entry(name), path(name)
    check_whole(found)
    digest = downloads.sha256(found)
    known = wanted.sha256 or pins().get(wanted.file, "")
    if not digest.startswith(known):
        raise WeightsError(f"{found} is corrupt: its sha256 is {digest}, not {known}",
                           f"`sigan bases remove {name}`, then `sigan bases pull {name}`")
    return digest


def recognise(digest: str) -> WeightFile | None:
    """The catalogue's entry of a file's sha256, if that is known or pinned."""
    pinned = {value: file for file, value in pins().items()}
    return next((wanted for wanted in CATALOGUE.values() if wanted.file == pinned.get(digest)
                 or wanted.sha256 and digest.startswith(wanted.sha256)), None)


def adopt(source: Path, wanted: WeightFile) -> Path:
    """Copies a file fetched by hand into the cache, whole or not at all."""
    import shutil

    target = folder() / wanted.file
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise downloads.no_room(target, error) from error
    return target


def remove(name: str) -> Path:
    """Deletes the cached file; a pin stays."""
    found = folder() / entry(name).file
    if not found.is_file():
        raise WeightsError(f"the weights {name} are not here", get_hint(name))
    found.unlink()
    return found


def pins() -> dict[str, str]:
    """File name -> sha256 of the files that no hash is published for, as they were when they first proved right."""
    try:
        known = json.loads((folder() / PINS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def pin(file: str, digest: str) -> None:
    """Keeps the sha256 of a file that proved right; a later download must have the same."""
    from sigan import images

    known = {**pins(), file: digest}
    images.atomic_write(folder() / PINS, json.dumps(known, indent=1, sort_keys=True).encode())


# ---- what all weight files have in common

def check_whole(path: Path) -> None:
    """Passes a file whose outside is complete: a zip with its table, a pickle with its end, safetensors of full length.

    WeightsError says what it is instead: a web page, a truncated or empty file.
    """
    import zipfile

    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(16)
        file.seek(max(size - 1, 0))
        last = file.read(1)
    start = head.lstrip().lower()
    if start.startswith(downloads.PAGES):
        fault = "is a web page, not weights"
    elif head.startswith(b"PK"):
        fault = "" if zipfile.is_zipfile(path) else "is truncated: the table at the end of the archive is missing"
    elif head[8:9] == b"{":
        fault = "" if _safetensors_length(path) == size else "is truncated, or no safetensors file"
    elif head.startswith(LEGACY):
        fault = ""  # storages follow the pickles, and no end is marked: its hash or its tensors must tell
    elif head.startswith(b"\x80"):
        fault = "" if last == b"." else "is truncated: the end of the pickle is missing"
    else:
        fault = "is no weight file: neither a PyTorch archive, nor a pickle, nor safetensors" if size else "is empty"
    if fault:
        raise WeightsError(f"{path} {fault}", "fetch it again")


def _safetensors_length(path: Path) -> int:
    try:
        ends = [value["data_offsets"][1] for key, value in read_header(path).items() if key != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError):
        return -1
    with open(path, "rb") as file:
        return header_size(file.read(8)) + max(ends, default=0)


def read_header(path: Path) -> dict[str, Any]:
    """The JSON before the tensors of a safetensors file. OSError, or ValueError when it is none."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:
            raise ValueError("no safetensors file")
        header = json.loads(file.read(size))
    if not isinstance(header, dict):
        raise ValueError("no safetensors header")
    return header


def header_size(content: bytes) -> int:
    """Bytes before the tensors: the length's eight and the JSON's (safetensors' format)."""
    return 8 + int.from_bytes(content[:8], "little")


def metadata(content: bytes) -> dict[str, str]:
    """The free text entries of a safetensors file's header."""
    return json.loads(content[8 : header_size(content)]).get("__metadata__", {})


def load_strict(net: nn.Module, state: dict[str, Tensor], source: str, remedy: str) -> None:
    """Puts the tensors in place. One WeightsError lists every missing, unexpected and mis-shaped key, sorted."""
    own = net.state_dict()
    faults = [f"missing {key}" for key in sorted(set(own) - set(state))]
    faults += [f"unexpected {key}" for key in sorted(set(state) - set(own))]
    faults += [f"{key} is {list(state[key].shape)}, not {list(own[key].shape)}"
               for key in sorted(set(own) & set(state)) if own[key].shape != state[key].shape]
    if faults:
        raise WeightsError(f"{source} does not fit: {'; '.join(faults)}", remedy)
    net.load_state_dict(state, assign=True)
