"""Intake: files of other programs, fetched by hand or pulled, become bases, style packs, codes and cached weights.

What a file is, its content tells (`convert.read`, and known hashes), not its name. A base is assembled in a folder of
its own and moved into place whole.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigan import bases, downloads, plugins, runtime, weights
from sigan.errors import ConfigError, OfflineError, WeightsError
from sigan.events import Transfer

if TYPE_CHECKING:
    from torch import Tensor

    from sigan.convert import Foreign, Part

SIDES = {"ffhq": 1024}  # of the bases that others mean by that name
SAME = 1e-3  # relative difference below which two generators are one: conversions round, other weights differ by 1
NEAR = 0.05  # of an average tensor, below which codes of one still serve the other: it was tuned a little
ROUNDING = 1e-6  # of a tensor's length, which is no difference where the tensor is all but zero
OTHER = "another"
ASSUMED = f"{weights.NVIDIA_LICENCE}, assumed from the file's layout"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Imported:
    """Something made of foreign files: `kind` is base, weights, style or codes; `parts` are a base's nets."""

    kind: str
    name: str
    path: Path
    licence: str = ""
    parts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Parcel:
    """One foreign file, read."""

    path: Path
    digest: str
    foreign: Foreign = field(repr=False)
    url: str = ""

    def source(self) -> dict[str, Any]:
        return {"file": self.path.name, "kind": self.foreign.kind, "sha256": self.digest,
                "bytes": self.path.stat().st_size, "url": self.url, "parts": sorted(self.foreign.parts)}


# ---- by hand

def import_files(paths: Sequence[str | Path], name: str | None = None, *, licence: str = "", style: str = "",
                 base: str = "", overwrite: bool = False, urls: dict[str, str] | None = None,
                 needs: Sequence[str] = ()) -> list[Imported]:
    """What the files became: one base of all generators, discriminators and encoders among them, and the rest.

    name: the base's; `ffhq` for 1024², the file's stem otherwise. A base of that name gets the parts it lacks;
    `overwrite` replaces those it has. licence: instead of the one known or assumed. style, base: what to call a JoJoGAN
    checkpoint, and the base that it was tuned from. urls: file name -> where it came from, for the record. needs: nets
    that must be among them.
    WeightsError for a file that is truncated, foreign, or does not fit the others; ConfigError for names.
    """
    for chosen in (name, style):
        if chosen and not NAME.fullmatch(chosen):
            raise ConfigError(f"'{chosen}' cannot be a name", "use letters, digits, '.', '_' and '-'")
    if name in plugins.entries(bases.GROUP):
        raise ConfigError(f"base '{name}' comes with a package", "choose another --name")
    made, parcels = [], []
    for path in map(Path, paths):
        digest = _digest(path)
        wanted = weights.recognise(digest)
        if wanted and not weights.is_part(wanted):
            made.append(Imported("weights", wanted.name, weights.adopt(path, wanted), wanted.licence))
            continue
        from sigan import convert

        parcel = _Parcel(path, digest, convert.read(path), (urls or {}).get(path.name, ""))
        if parcel.foreign.kind == "latent":
            made.append(_keep_codes(parcel))
        elif parcel.foreign.kind == "jojogan-style":
            made.append(_keep_style(parcel, style, base, overwrite))
        else:
            parcels.append(parcel)
    there = {net for parcel in parcels for net in parcel.foreign.parts}
    if missing := sorted(set(needs) - there):
        raise WeightsError(f"there is no {' and no '.join(missing)} among the files", "give the files that hold them")
    if parcels:
        made.append(_keep_base(parcels, name, licence, overwrite))
    return made


def _digest(path: Path) -> str:
    try:
        return downloads.sha256(path)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}", "check the path") from error


# ---- bases

def _keep_base(parcels: list[_Parcel], name: str | None, licence: str, overwrite: bool) -> Imported:
    notes = [note for parcel in parcels for note in parcel.foreign.facts.get("notes", ()) if "mean code" not in note]
    parts = _assemble(parcels, notes)
    side = next(iter(parts.values())).config["resolution"]
    if side != SIDES.get(name or "", side):
        raise WeightsError(f"{parcels[0].path.name} is of {side}², and '{name}' is the base of {SIDES[name or '']}²",
                           "choose another --name, or the file of that size")
    if name is None:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", parcels[0].path.stem).strip("-._")
        name = "ffhq" if side == SIDES["ffhq"] else stem or "imported"
    if not licence:
        known = [weights.recognise(parcel.digest) for parcel in parcels]
        stated = [entry.licence for entry in known if entry]
        stated += [parcel.foreign.facts["licence"] for parcel in parcels if parcel.foreign.facts.get("licence")]
        licence = weights.terms(stated)
    folder = bases.home() / name
    with downloads.lock(folder) as take:
        while not take():
            pass
        return _store(folder, parts, [parcel.source() for parcel in parcels], licence, overwrite, notes)


def _assemble(parcels: list[_Parcel], notes: list[str]) -> dict[str, Part]:
    """One part of each net; `notes` learns what was settled.

    An e4e checkpoint brings the generator it was trained on: the other one is taken, and must be the same or near it.
    A generator's file without a mean code gets e4e's.
    """
    parts: dict[str, Part] = {}
    origin: dict[str, str] = {}
    for parcel in sorted(parcels, key=lambda parcel: parcel.foreign.kind == "e4e"):
        for net, part in parcel.foreign.parts.items():
            if net not in parts:
                parts[net], origin[net] = part, parcel.path.name
            elif net != "generator":
                raise WeightsError(f"{origin[net]} and {parcel.path.name} both hold a {net}",
                                   "import one of the two, or each under its own --name")
            elif note := _unlike(parts[net].state, part.state):
                if note is OTHER:
                    raise WeightsError(f"{parcel.path.name} belongs to another generator than that of {origin[net]}",
                                       "import them under different names: --name")
                notes.append(f"{parcel.path.name} was trained on a generator {note} from that of {origin[net]}, which "
                             "is taken: likenesses may suffer a little")
    if "generator" in parts and parts["generator"].filled:
        encoder = parts.get("encoder")
        if encoder and encoder.kind == "e4e" and encoder.config["w_dim"] == parts["generator"].config["w_dim"]:
            parts["generator"].state["mapping.w_avg"] = encoder.state["w_avg"].mean(0)
            notes.append(f"{origin['generator']} has no mean code: it is that of {origin['encoder']}")
        else:
            notes.append(f"{origin['generator']} has no mean code: it was drawn")
    return parts


def lacks(nets: Sequence[str]) -> list[str]:
    """What a base without some of its nets cannot do, and what mends it."""
    notes = {"discriminator": "no discriminator: training and --refine need LPIPS (`sigan bases pull lpips-vgg`)",
             "encoder": "no encoder: it draws faces, but cannot invert any; import e4e_ffhq_encode.pt or its like"}
    return [note for net, note in notes.items() if net not in nets]


def _unlike(a: dict[str, Tensor], b: dict[str, Tensor]) -> str:
    """Empty where two generators are one, how far they are apart where they are near, otherwise OTHER.

    Noise maps and the mean code are statistics, and may differ.
    """
    keys = {key for key in {*a, *b} if not key.endswith(("noise_const", "w_avg"))}
    if any(key not in a or key not in b or a[key].shape != b[key].shape for key in keys):
        return OTHER
    found = []
    for key in keys:
        ours, theirs = a[key].float(), b[key].float()
        apart, size = max(float((ours - theirs).norm()) - ROUNDING, 0.0), float(ours.norm())
        found.append(min(1.0, apart / size) if size else float(apart > 0))
    if max(found) <= SAME:
        return ""
    average = sum(found) / len(found)
    return f"{average:.1%} apart" if average <= NEAR else OTHER


def _store(folder: Path, parts: dict[str, Part], sources: list[dict[str, Any]], licence: str, overwrite: bool,
           notes: Sequence[str] = ()) -> Imported:
    """Writes the parts and those that the base has already into a new folder, then puts it in place."""
    old = bases.record(folder)
    if old and not overwrite and "generator" in parts:
        ours = bases.load(folder.name).generator.state_dict()
        if note := _unlike(ours, parts["generator"].state):
            notes = [*notes, f"these files' generator is {note} from the one here, which stays: likenesses may suffer "
                             "a little"]
        if note is OTHER:
            raise ConfigError(f"base '{folder.name}' is here already, with another generator",
                              "choose another --name, or --overwrite to replace it; packs made on it will not fit")
        del parts["generator"]  # packs name the hash of the one that is here
    licence = licence or old.get("licence", "") or ASSUMED
    kept = {} if overwrite and "generator" in parts else {net: value for net, value in old.get("files", {}).items()
                                                          if net not in parts}
    if "generator" not in parts and "generator" not in kept:
        raise WeightsError("there is no generator among the files", "import it together with the others")
    work = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        work.mkdir(parents=True)
        files = {}
        for net, value in kept.items():
            _link(folder / f"{net}.safetensors", work / f"{net}.safetensors")
            files[net] = value
        for net, part in parts.items():
            files[net] = _write(work / f"{net}.safetensors", net, part, licence)
        _check_fit(work, files)
        known = {"name": folder.name, "licence": licence, "created": date.today().isoformat(), "files": files,
                 "sources": [*old.get("sources", []), *sources] if kept else sources, "alignment": bases.ALIGNMENT}
        (work / bases.RECORD).write_text(json.dumps(known, indent=1), encoding="utf-8")
        for net in files:  # safetensors' writer lets nobody else read, whatever the user's umask
            shutil.copymode(work / bases.RECORD, work / f"{net}.safetensors")
        aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.old")
        if folder.exists():
            os.rename(folder, aside)
        os.rename(work, folder)
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise downloads.no_room(folder, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    made = tuple(net for net in bases.NETS if net in files)
    return Imported("base", folder.name, folder, licence, made, (*notes, *lacks(made)))


def _write(path: Path, net: str, part: Part, licence: str) -> dict[str, Any]:
    """Saves one net in fp32, after it has loaded strictly; gives its line of the record."""
    from importlib import import_module

    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from sigan.nets.unfilled import Unfilled

    module, net_name, config_name = bases.KINDS[part.kind]
    config = getattr(import_module(module), config_name)(**part.config)
    with Unfilled():
        model = getattr(import_module(module), net_name)(config)
    state = {key: value.float() if value.is_floating_point() else value for key, value in part.state.items()}
    weights.load_strict(model, state, f"the {net}", "this is a fault of sigan's: please report it")
    text = {"config": json.dumps(config.to_dict()), "licence": licence, "kind": part.kind}
    try:
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path, text)
    except SafetensorError as error:
        told = re.search(r"\(os error (\d+)\)", str(error))  # a full disk, as the system calls it
        number = int(told[1]) if told else errno.EIO
        raise OSError(number, os.strerror(number)) from error
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    stat = path.stat()
    return {"bytes": stat.st_size, "sha256": downloads.sha256(path), "modified": stat.st_mtime_ns}


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)


def _check_fit(work: Path, files: dict[str, Any]) -> None:
    """WeightsError when the nets are not of one size."""
    configs = {net: json.loads(weights.read_header(work / f"{net}.safetensors")["__metadata__"]["config"])
               for net in files}
    generator = configs.pop("generator")
    faults = [f"the {net}'s {what} is {config[what]}, the generator's {generator[what]}"
              for net, config in configs.items() for what in ("resolution", "w_dim")
              if what in config and config[what] != generator[what]]
    if faults:
        raise WeightsError("; ".join(faults), "import files that belong to one model")


# ---- styles and codes

def _keep_style(parcel: _Parcel, name: str, base: str, overwrite: bool) -> Imported:
    """A generator tuned by JoJoGAN's program, as a pack of the base it was tuned from."""
    import tempfile

    from sigan import packs, styles

    if not name or not base:
        raise ConfigError(f"{parcel.path} is a style checkpoint: a tuned generator",
                          "say what to call it and what it was tuned from: --as-style NAME --base ffhq")
    model = bases.load(base)
    ours = model.generator.state_dict()
    tuned = {key: value.float() for key, value in parcel.foreign.parts["generator"].state.items()}
    mapping = {key: value for key, value in ours.items() if key.startswith("mapping.") and not key.endswith("w_avg")}
    if _unlike(mapping, {key: tuned.get(key, value) for key, value in mapping.items()}):
        raise WeightsError(f"{parcel.path} was tuned from another model than '{base}': their mapping networks differ",
                           "import the base it belongs to, and name it with --base")
    tuned = {**tuned, **{key: value for key, value in ours.items() if key.startswith("mapping.")}}
    manifest = packs.PackManifest(
        name=name, base=model.name, base_hash=model.hash, base_resolution=model.resolution, recipe="jojogan",
        config={"imported": parcel.source()}, seed=0, steps=0, references=0, licence=model.licence,
        base_licence=model.licence, created=date.today().isoformat(), card=f"Imported from {parcel.path.name}.")
    pack = packs.StylePack.from_weights(manifest, ours, tuned)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.safetensors")
        pack.save(path)
        entry = styles.install(path, name, force=overwrite)
    return Imported("style", name, entry.path, model.licence)


def _keep_codes(parcel: _Parcel) -> Imported:
    """Codes of faces [F,L,C], in the form that `sigan invert` writes."""
    from safetensors.torch import save

    from sigan import images

    [ws] = parcel.foreign.parts["ws"].state.values()
    path = runtime.home() / "codes" / f"{parcel.path.stem}.safetensors"
    images.atomic_write(path, save({"ws": ws.float().contiguous()}, {"source": parcel.path.name}))
    return Imported("codes", parcel.path.stem, path)


# ---- from the network

def here(name: str) -> bool:
    """Whether there is nothing left to pull."""
    if name not in weights.PULLED:
        return weights.has(name)
    return name in bases.names() and set(bases.NETS) <= set(bases.facts(name).values)


def pull(name: str, keep: bool = False) -> Iterator[Transfer | Imported]:
    """Downloads a base, or a file of the catalogue: records of the transfers, and last what was made.

    The originals of a base are deleted once it is made, unless `keep`. Errors are those of `downloads.download` and
    `import_files`.
    """
    if name not in weights.PULLED:
        [[wanted]] = weights.files_of(name)
        yield from weights.pull(name)
        yield Imported("weights", name, weights.path(name), wanted.licence)
        return
    if not here(name):
        with downloads.lock(weights.folder() / name) as take:  # one process at a time: the last step deletes files
            while not take():
                yield Transfer(name, "", 0, None, "waiting")
            if not here(name):
                yield from _pull_base(name, keep)
                return
    found = bases.facts(name)
    yield Imported("base", name, bases.find(name), found.licence, tuple(found.values), ("it was here already",))


def _pull_base(name: str, keep: bool) -> Iterator[Transfer | Imported]:
    """As `pull`, of a base that is not here and that nobody else pulls meanwhile."""
    fetched: list[weights.WeightFile] = []
    urls: dict[str, str] = {}
    for alternatives in weights.files_of(name):
        wanted = yield from _first(alternatives, urls)
        fetched.append(wanted)
    files = [weights.folder() / wanted.file for wanted in fetched]
    try:
        terms = weights.terms([wanted.licence for wanted in fetched])  # as shown, from a mirror too
        made = import_files(files, name, licence=terms, urls=urls, needs=("generator", "encoder"))[-1]
    except WeightsError as error:
        for file in files:  # what does not fit is not tried again as it is
            file.unlink(missing_ok=True)
        raise WeightsError(f"what was downloaded is no '{name}': {error.message}", error.hint) from error
    for source in bases.record(made.path)["sources"]:
        weights.pin(source["file"], source["sha256"])
    if not keep:
        for file in files:
            file.unlink(missing_ok=True)
    yield replace(made, notes=(*made.notes, *(() if keep else ("the downloads were deleted",))))


def _first(alternatives: list[weights.WeightFile],
           urls: dict[str, str]) -> Generator[Transfer, None, weights.WeightFile]:
    """Pulls the first file that can be had, and returns its entry; `urls` learns where from."""
    reasons: list[WeightsError] = []
    for wanted in alternatives:
        try:
            for record in weights.pull(wanted.name, weights.by_hand(*alternatives)):
                urls[wanted.file] = record.url or urls.get(wanted.file, "")
                yield record
            return wanted
        except WeightsError as error:
            reasons.append(error)
    kind = OfflineError if all(isinstance(error, OfflineError) for error in reasons) else WeightsError
    raise kind("\n".join(error.message for error in reasons), reasons[-1].hint)
