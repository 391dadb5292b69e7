"""The styles at hand: the user's own packs in SIGAN_HOME, and those that packages bring. Install, find, remove.

Listing reads no pack, imports no torch, and runs no code of a package that keeps its packs beside its module.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import re
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urlsplit

from sigan import plugins, runtime
from sigan.errors import ConfigError, OfflineError, OutputError, PackError, UnknownStyleError, WeightsError
from sigan.manifest import MAX_FILE
from sigan.plugins import Plugin, PluginProblem

if TYPE_CHECKING:
    from sigan.events import Transfer
    from sigan.packs import PackManifest, StylePack

GROUP = "sigan.styles"
HOME = "home"
SUFFIX = ".safetensors"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # no '+', ':' or separators: these mean a blend or a path
LOAD_SECONDS = 10.0  # for a package that has to be asked where its packs are


@dataclass(frozen=True)
class StyleEntry:
    """A pack at hand: `origin` is "home" (installed by the user), "file" (a path), or the package that brings it.

    `name` is what `--style` takes: ORIGIN:NAME where another style has the plain name.
    """

    name: str
    path: Path
    origin: str

    @property
    def plain(self) -> str:
        return self.name.removeprefix(f"{self.origin}:")

    @property
    def full_name(self) -> str:
        """ORIGIN:NAME, which no other style has."""
        return f"{self.origin}:{self.plain}"


# ---- what is there

def installed() -> dict[str, StyleEntry]:
    """All installed styles by name, sorted. Their files are not read.

    A plain name is the user's own style, else the first package's; the others of that name are ORIGIN:NAME.
    """
    return scan()[0]


def names() -> list[str]:
    """The names of installed styles that are found without running any package's code, sorted."""
    return list(_named(_at_hand()))


def problems() -> list[PluginProblem]:
    """What is wrong with the styles that packages bring."""
    return scan()[1]


def find(name_or_path: str | Path) -> StyleEntry:
    """The installed style of that name, or the pack file at that path. UnknownStyleError with near names otherwise."""
    text, path = str(name_or_path), Path(name_or_path)
    looks: tuple[Callable[[], dict[str, StyleEntry]], ...] = (lambda: _named(_at_hand()), installed)
    for look in looks:  # a package that must be asked may be slow: only if need be
        styles = look()
        for entry in styles.values():
            if text in (entry.name, entry.full_name):
                return entry
        if path.is_file() and (look is installed or text.endswith(SUFFIX)):
            return StyleEntry(path.stem, path, "file")
    near = difflib.get_close_matches(text.lower(), styles, n=3)
    hint = (f"did you mean {' or '.join(near)}?" if near else
            f"installed: {', '.join(styles)}" if styles else "none is installed: `sigan styles install FILE`")
    what = "no pack file at" if text.endswith(SUFFIX) or path.name != text else "no style called"
    raise UnknownStyleError(f"{what} '{text}'", hint)


def namesakes(entry: StyleEntry) -> list[StyleEntry]:
    """The other installed styles of the same plain name."""
    return [other for other in installed().values() if other.plain == entry.plain and other != entry]


def ambiguities(spec: str) -> list[str]:
    """A sentence for each plain name in a style or blend that several installed styles have: which of them it means."""
    from sigan import packs

    styles, told = _named(_at_hand()), []  # those of packages that must be asked come last, and take no name
    for name, _ in packs.parse_blend(spec):
        others = [entry.full_name for entry in styles.values() if entry.plain == name and entry.name != name]
        if name in styles and others:
            told.append(f"style '{name}' is {styles[name].full_name}; also installed: {', '.join(others)}")
    return told


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


# ---- coming and going

def install(path: str | Path, name: str | None = None, force: bool = False) -> StyleEntry:
    """Copies a valid pack to the user's styles, under its own name or `name`. `force` replaces."""
    (entry,) = _install([Path(path)], name, force)
    return entry


def install_folder(folder: str | Path, force: bool = False) -> list[StyleEntry]:
    """Installs every pack directly in a folder, each under its own name; nothing when one of them is not valid."""
    paths = _files(Path(folder))
    if not paths:
        raise ConfigError(f"no {SUFFIX} file in {folder}", "give a folder with packs, or one pack")
    return _install(paths, None, force)


def install_url(url: str, sha256: str = "", name: str | None = None, force: bool = False,
                progress: Callable[[Transfer], None] = lambda record: None) -> StyleEntry:
    """Downloads a pack of a known hash (`sha256` in hex, or the URL's #sha256=HEX) and installs it.

    ConfigError without a hash; PackError when what comes has another, is too large or is no pack; OfflineError.
    """
    from sigan import downloads

    url, fragment = urldefrag(url)
    digest = (sha256 or fragment.removeprefix("sha256=")).lower()
    if urlsplit(url).scheme not in ("https", "http"):
        raise ConfigError(f"{url} is no http or https address", "download it, then `sigan styles install FILE`")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        what = f"'{digest}' is no sha256" if digest else f"{url} is to be installed without a hash"
        raise ConfigError(what, "add --sha256 with the 64 digits that the publisher states; "
                                "or download it, look at it, and `sigan styles install FILE`")
    file = Path(unquote(urlsplit(url).path)).name or "pack"
    with tempfile.TemporaryDirectory(prefix="sigan-") as folder:
        path = Path(folder, f"{re.sub(r'[^A-Za-z0-9._-]', '_', file.removesuffix(SUFFIX)).lstrip('.')}{SUFFIX}")
        try:
            with contextlib.closing(downloads.download(path, (url,), digest=digest, remedy=_FETCH)) as records:
                for record in records:
                    progress(record)
                    if max(record.bytes, record.total or 0) > MAX_FILE:
                        raise PackError(f"{url} has more than {MAX_FILE >> 20} MiB: no pack is that large",
                                        "check the address")
        except OfflineError:
            raise
        except WeightsError as error:
            raise PackError(error.message, error.hint) from error
        try:
            return install(path, name, force)
        except PackError as error:
            raise PackError(error.message.replace(str(path), url), error.hint) from error


def remove(name: str) -> StyleEntry:
    """Deletes the user's pack of that name and leaves nothing of it. ConfigError for one that a package brings."""
    entry = find(name)
    if entry.origin == "file":
        raise ConfigError(f"'{name}' is a file, not an installed style", "delete the file itself")
    if entry.path.parent != _folder():
        raise ConfigError(f"style '{name}' comes with package {entry.origin}", f"`pip uninstall {entry.origin}`")
    try:
        entry.path.unlink()
        if not any(_folder().iterdir()):
            _folder().rmdir()
    except OSError as error:
        raise OutputError(f"cannot remove {entry.path}: {error.strerror}", "check who owns the file") from error
    return entry


def export(entry: StyleEntry, path: str | Path, overwrite: bool = False) -> Path:
    """A copy of a style's pack, checked on its way. ConfigError when the file exists and is not to be replaced."""
    from sigan import images, packs

    path = Path(path)
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists already", "--overwrite replaces it; or choose another name")
    packs.StylePack.load(entry.path)
    images.atomic_write(path, entry.path.read_bytes())
    return path


def _install(paths: list[Path], name: str | None, force: bool) -> list[StyleEntry]:
    """Checks all, then copies all."""
    from sigan import images, packs

    taken = installed()
    entries: dict[str, tuple[Path, StyleEntry]] = {}
    for path in paths:
        own = packs.StylePack.load(path).manifest.name
        chosen = name or own
        if not NAME.fullmatch(chosen):
            raise ConfigError(f"'{chosen}' cannot name a style", "letters, digits, '.', '_' and '-': use --name")
        if chosen in taken and not force:
            raise ConfigError(f"a style called '{chosen}' is installed already, from {taken[chosen].origin}",
                              "--force replaces it; --name installs under another name")
        if chosen in entries:
            raise ConfigError(f"{entries[chosen][0]} and {path} are both called '{chosen}'",
                              "install one of them alone, with --name")
        entries[chosen] = path, StyleEntry(chosen, _folder() / f"{chosen}{SUFFIX}", HOME)
    for path, entry in entries.values():
        images.atomic_write(entry.path, path.read_bytes())
    return [entry for _, entry in entries.values()]


def _folder() -> Path:
    return runtime.home() / "styles"


def _files(folder: Path | None = None) -> list[Path]:
    return [path for path in sorted((folder or _folder()).glob(f"*{SUFFIX}")) if path.name[0] != "."]


# ---- the lists

def scan() -> tuple[dict[str, StyleEntry], list[PluginProblem]]:
    """Both `installed()` and `problems()`, for one look at what is there."""
    entries, asked = _at_hand(), set()
    problems = [PluginProblem(GROUP, "", HOME, f"{path} has a name that no style can have", "rename or delete the file")
                for path in _files() if not NAME.fullmatch(path.stem)]
    for plugin in plugins.usable(GROUP):
        if _beside(plugin) or (plugin.package, plugin.value) in asked:
            continue
        asked.add((plugin.package, plugin.value))
        try:
            paths = _asked(plugin, LOAD_SECONDS)
        except (Exception, SystemExit) as error:  # a plugin's code may fail in any way
            told = error.message if isinstance(error, ConfigError) else f"{plugin}: {type(error).__name__}: {error}"
            problems.append(PluginProblem(GROUP, plugin.name, plugin.package, told,
                                          getattr(error, "hint", "") or plugin.remedy()))
            continue
        entries += [StyleEntry(name, path, plugin.package) for name, path in paths.items()]
    return _named(entries), problems


def _at_hand() -> list[StyleEntry]:
    """The styles whose files are found without running any package's code, in order of precedence."""
    own = [StyleEntry(path.stem, path, HOME) for path in _files() if NAME.fullmatch(path.stem)]
    return own + [StyleEntry(plugin.name, path, plugin.package)
                  for plugin in plugins.usable(GROUP) if (path := _beside(plugin))]


def _named(entries: list[StyleEntry]) -> dict[str, StyleEntry]:
    """By name, sorted; the first of a plain name has it, the others get ORIGIN:NAME."""
    styles: dict[str, StyleEntry] = {}
    unique: dict[str, StyleEntry] = {}
    for entry in entries:
        unique.setdefault(entry.full_name, entry)
    for entry in unique.values():
        name = entry.full_name if entry.plain in styles else entry.plain
        styles[name] = StyleEntry(name, entry.path, entry.origin)
    return dict(sorted(styles.items()))


def _beside(plugin: Plugin) -> Path | None:
    """The pack called as the entry point, in the folder of the package it leads into; found without importing that."""
    module = plugin.point.module
    if "." in module or not NAME.fullmatch(plugin.name):  # looking into a package below another imports the upper one
        return None
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        spec = importlib.util.find_spec(module)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            if (path := Path(folder, f"{plugin.name}{SUFFIX}")).is_file():
                return path
    return None


def _paths(plugin: Plugin) -> dict[str, Path]:
    """Pack files by name of what an entry point loads to: a Path, a dict of these, or a callable giving one."""
    offer: Any = plugin.load()
    offer = offer() if callable(offer) else offer
    paths = {name: Path(path) for name, path in (offer if isinstance(offer, Mapping) else {plugin.name: offer}).items()}
    for name, path in paths.items():
        if not NAME.fullmatch(name) or path.suffix != SUFFIX or not path.is_file():
            raise ConfigError(f"{plugin} brings no style: '{name}' is no {SUFFIX} file at {path}", plugin.remedy())
    return paths


def _asked(plugin: Plugin, seconds: float) -> dict[str, Path]:
    """What `_paths` gives or raises; ConfigError when it takes longer, and then it is left behind."""
    outcome: list[tuple[dict[str, Path], BaseException | None]] = []

    def ask() -> None:
        try:
            outcome.append((_paths(plugin), None))
        except BaseException as error:
            outcome.append(({}, error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise ConfigError(f"{plugin} hangs: no answer within {seconds:g} s", plugin.remedy())
    paths, error = outcome[0]
    if error:
        raise error
    return paths


_FETCH = "download it in a browser, compare its hash, and `sigan styles install FILE`"
