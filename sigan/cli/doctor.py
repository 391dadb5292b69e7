"""`sigan doctor`: one screen on what works here, and the fix for each thing that does not."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import typer

from sigan.cli import options, render
from sigan.errors import SiganError

MODELS = {"landmarks": "shape_predictor_68_face_landmarks.dat", "face detector": "mmod_human_face_detector.dat",
          "face descriptor": "dlib_face_recognition_resnet_model_v1.dat"}
REINSTALL = "pip install --force-reinstall sigan"
LOW_MEMORY = 2e9  # bytes; what `stylize` may need on a CPU with the embedded base


@dataclass(frozen=True)
class Check:
    """One line of the screen: `status` is ok, warn or fail, `fix` says what to do, `code` is a failure's exit code."""

    name: str
    status: str
    value: str
    fix: str = ""
    code: int = 0


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(device: options.Device = "auto", json: options.Json = False) -> None:
    """Checks what sigan needs, and tells the fix for each problem.

    Device, versions, free memory, weights and their hashes, detectors, styles and plugins.
    """
    probes: dict[str, Callable[[], Iterator[Check]]] = {
        "software": _software, "device": partial(_device, device), "memory": _memory, "home": _home,
        "bases": _bases, "detectors": _detectors, "styles": _styles, "plugins": _plugins}
    checks = [check for name, probe in probes.items() for check in _guarded(name, probe)]
    code = max((check.code for check in checks if check.status == "fail"), default=0)
    if json:
        render.data({"healthy": code == 0, "checks": [asdict(check) for check in checks]})
    else:
        render.table("sigan doctor", ["check", "status", "found"], [[c.name, c.status, c.value] for c in checks])
        for check in checks:
            if check.fix:
                render.note(f"{check.name}: {check.fix}")
        render.note("all is well" if all(check.status == "ok" for check in checks) else
                    "it works, with the limits above" if code == 0 else "the failures above have to be mended")
    raise typer.Exit(code)


def _guarded(name: str, probe: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The checks of one probe; what it raises is its last check, and the other probes go on."""
    try:
        yield from probe()
    except SiganError as error:
        yield _failure(name, error)
    except Exception as error:  # a broken installation may fail in any way: that is what is to be shown
        yield Check(name, "fail", f"{type(error).__name__}: {error}", REINSTALL, 1)


def _failure(name: str, error: SiganError) -> Check:
    return Check(name, "fail", error.message, error.hint, error.exit_code)


def _software() -> Iterator[Check]:
    from sigan import __version__

    yield Check("sigan", "ok", f"{__version__}, Python {platform.python_version()}, "
                               f"{platform.system()} {platform.machine()}")
    for package in ("torch", "numpy", "pillow", "safetensors"):
        try:
            yield Check(package, "ok", metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Check(package, "fail", "not installed", f"pip install {package}", 1)


def _device(name: str) -> Iterator[Check]:
    from sigan import runtime

    device = runtime.resolve_device(name)
    import torch

    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        yield Check("device", "ok", f"{device}: {torch.cuda.get_device_name(device)}, "
                                    f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    else:
        yield Check("device", "ok", f"{device}, threads: {torch.get_num_threads()}")


def _memory() -> Iterator[Check]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    low = free < LOW_MEMORY
    yield Check("memory", "warn" if low else "ok", f"{free / 1e9:.1f} GB free",
                "close other programs, or use a smaller --batch-size" if low else "")


def _home() -> Iterator[Check]:
    from sigan import runtime

    home = runtime.home().absolute()
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=there):  # asking for permission is not enough: disks are read-only, too
            yield Check("home", "ok", str(home))
    except OSError as error:
        yield Check("home", "fail", f"{home} cannot be written: {error.strerror}",
                    "set SIGAN_HOME to a writable folder; until then styles that are here can be used, "
                    "and nothing can be trained, installed or downloaded", 2)


def _bases() -> Iterator[Check]:
    from sigan import bases

    names = bases.names()
    if not names:
        yield Check("bases", "fail", "none", REINSTALL, 5)
    for name in names:
        try:
            base = bases.load(name)
            yield Check(f"base {name}", "ok", f"{base.resolution}², hash {base.hash[:12]}…, {base.licence}")
        except SiganError as error:
            yield _failure(f"base {name}", error)


def _detectors() -> Iterator[Check]:
    import numpy as np

    from sigan import detection

    for name, model in MODELS.items():
        try:
            yield Check(name, "ok", f"{detection.model_path(model).stat().st_size / 1e6:.1f} MB")
        except SiganError as error:
            yield _failure(name, error)
    try:
        detection.DlibAligner().find(np.zeros((128, 128, 3), np.uint8))  # every rung runs, and finds nobody
        yield Check("dlib", "ok", f"{detection.DlibAligner.__name__}: detectors run")
    except ImportError as error:
        yield Check("dlib", "fail", str(error), "pip install dlib-bin", 5)


def _styles() -> Iterator[Check]:
    from sigan import bases, packs, styles

    entries = styles.installed()
    if not entries:
        yield Check("styles", "warn", "none", "sigan styles install FILE, or sigan train NAME REFS...")
    for entry in entries.values():
        try:
            pack = packs.StylePack.load(entry.path)
        except SiganError as error:
            yield _failure(f"style {entry.name}", error)
            continue
        try:
            pack.check(bases.load(pack.manifest.base))
            yield Check(f"style {entry.name}", "ok", f"for {pack.manifest.base}, from {entry.origin}")
        except SiganError as error:  # usable with another base: no reason to fail
            yield Check(f"style {entry.name}", "warn", error.message, error.hint)


def _plugins() -> Iterator[Check]:
    from sigan import checkup, styles

    for problem in dict.fromkeys([*checkup.problems(), *styles.problems()]):
        yield Check(f"plugin {problem.package}", "warn", problem.message, problem.hint)
