"""The styles at hand: the user's own packs in SIGAN_HOME, and those that packages bring. Install, find, remove.

Listing reads no pack and imports no torch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sigan import images, plugins, runtime
from sigan.errors import ConfigError, OutputError, UnknownStyleError

if TYPE_CHECKING:
    from sigan.packs import PackManifest, StylePack

GROUP = "sigan.styles"
SUFFIX = ".safetensors"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # no '+', ':' or separators: these mean a blend or a path


@dataclass(frozen=True)
class StyleEntry:
    """A pack at hand: `origin` is "home" (installed by the user), "file" (a path), or the package that brings it."""

    name: str
    path: Path
    origin: str


def installed() -> dict[str, StyleEntry]:
    """All installed styles by name, sorted; the user's own come before those of packages. Their files are not read."""
    return _scan()[0]


def problems() -> list[plugins.PluginProblem]:
    """What is wrong with the styles that packages bring."""
    return _scan()[1]


def find(name_or_path: str | Path) -> StyleEntry:
    """The installed style of that name, or the pack file at that path. UnknownStyleError with near names otherwise."""
    text = str(name_or_path)
    styles = installed()
    if text in styles:
        return styles[text]
    path = Path(name_or_path)
    if path.is_file():
        return StyleEntry(path.stem, path, "file")
    near = difflib.get_close_matches(text.lower(), styles, n=3)
    hint = (f"did you mean {' or '.join(near)}?" if near else
            f"installed: {', '.join(styles)}" if styles else "none is installed: `sigan styles install FILE`")
    what = "no pack file at" if text.endswith(SUFFIX) or path.name != text else "no style called"
    raise UnknownStyleError(f"{what} '{text}'", hint)


def install(path: str | Path, name: str | None = None, force: bool = False) -> StyleEntry:
    """Copies a valid pack to the user's styles, under its own name or `name`. `force` replaces."""
    from sigan import packs

    if "://" in str(path):
        raise ConfigError(f"cannot install from a URL yet: {path}", "download it, then `sigan styles install FILE`")
    name = name or packs.StylePack.load(path).manifest.name
    if not NAME.fullmatch(name):
        raise ConfigError(f"'{name}' cannot name a style", "letters, digits, '.', '_' and '-': use --name")
    taken = installed().get(name)
    if taken and not force:
        raise ConfigError(f"a style called '{name}' is installed already, from {taken.origin}",
                          "--force replaces it; --name installs under another name")
    packs.StylePack.load(path)
    target = _folder() / f"{name}{SUFFIX}"
    images.atomic_write(target, Path(path).read_bytes())
    return StyleEntry(name, target, "home")


def remove(name: str) -> StyleEntry:
    """Deletes the user's pack of that name. ConfigError for one that a package brings."""
    entry = find(name)
    if entry.origin == "file":
        raise ConfigError(f"'{name}' is a file, not an installed style", "delete the file itself")
    if entry.origin != "home":
        raise ConfigError(f"style '{name}' comes with package {entry.origin}", f"`pip uninstall {entry.origin}`")
    try:
        entry.path.unlink()
    except OSError as error:
        raise OutputError(f"cannot remove {entry.path}: {error.strerror}", "check who owns the file") from error
    return entry


def verify(name_or_path: str | Path) -> PackManifest:
    """The manifest of a pack whose every byte is as stated. PackError otherwise."""
    from sigan import packs

    return packs.StylePack.load(find(name_or_path).path).manifest


def load(spec: str) -> StylePack:
    """The pack that `--style` means: an installed name, a path, or a blend of these."""
    from sigan import packs

    parts = [(packs.StylePack.load(find(name).path), weight) for name, weight in packs.parse_blend(spec)]
    if len(parts) == 1 and parts[0][1] == 1.0:
        return parts[0][0]
    return packs.blend(*zip(*parts, strict=True))


def _folder() -> Path:
    return runtime.home() / "styles"


def _scan() -> tuple[dict[str, StyleEntry], list[plugins.PluginProblem]]:
    own = [StyleEntry(path.stem, path, "home") for path in _folder().glob(f"*{SUFFIX}") if path.name[0] != "."]
    styles = {entry.name: entry for entry in own}
    objects, problems = plugins.load_all(GROUP)
    origins = plugins.entries(GROUP)
    for key, offer in objects.items():
        package = origins[key].package
        try:
            for name, path in _paths(key, offer).items():
                styles.setdefault(name, StyleEntry(name, path, package))
        except Exception as error:  # a plugin's callable may fail in any way
            problems.append(plugins.PluginProblem(GROUP, key, package, f"no style: {type(error).__name__}: {error}",
                                                  f"`pip install --upgrade {package}`"))
    return dict(sorted(styles.items())), problems


def _paths(key: str, offer: object | Callable) -> dict[str, Path]:
    """Style files by name of what an entry point loads to: a Path, a dict of these, or a callable giving one."""
    offer = offer() if callable(offer) else offer
    paths = {name: Path(path) for name, path in (offer if isinstance(offer, Mapping) else {key: offer}).items()}
    for name, path in paths.items():
        if not NAME.fullmatch(name) or path.suffix != SUFFIX or not path.is_file():
            raise FileNotFoundError(f"'{name}' is no {SUFFIX} file at {path}")
    return paths
