"""Entry-point groups -> names -> objects loaded on use; the built-ins come through the same door.

A plugin is any installed package with an entry point in one of `GROUPS`. Finding and naming plugins runs none of
their code; `load` runs the one asked for, and `checkup` tries them all in another process. `SIGAN_PLUGINS=""` leaves
only the built-ins, a comma list of package names adds those alone.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from sigan.errors import ConfigError

PACKAGE = "sigan"
SWITCH = "SIGAN_PLUGINS"

GROUPS: Mapping[str, str] = {
    "sigan.styles": "style packs: a Path, a dict of name -> Path, or a callable that returns one of these",
    "sigan.bases": "face models: a callable that returns the folder of one",
    "sigan.aligners": "face detectors with landmarks: a class like `sigan.DlibAligner`",
    "sigan.inverters": "aligned faces to latent codes: a function like `sigan.invert`",
    "sigan.metrics": "measures for `sigan eval`",
    "sigan.engines": "ways to run the stylizer over many inputs: a function like `sigan.stylize_folder`",
    "sigan.commands": "more commands: a typer app or function",
}


@dataclass(frozen=True)
class Plugin:
    """One entry point: what it is called, which package brings it, and where its object is."""

    group: str
    name: str
    package: str
    version: str
    value: str
    enabled: bool
    point: metadata.EntryPoint = field(repr=False, compare=False)

    @property
    def builtin(self) -> bool:
        return self.package == PACKAGE

    @property
    def full_name(self) -> str:
        """PACKAGE:NAME, which no other plugin of the group has."""
        return f"{self.package}:{self.name}"

    def load(self) -> object:
        """The object behind the name. ConfigError naming the package when its code fails."""
        try:
            return self.point.load()
        except (Exception, SystemExit) as error:  # a plugin's code may fail in any way
            raise ConfigError(f"{self} does not load: {type(error).__name__}: {error}",
                              self.remedy(error)) from error

    def __str__(self) -> str:
        return f"{self.group} '{self.name}' of package {self.package} {self.version}".rstrip()

    def remedy(self, error: BaseException | None = None) -> str:
        """What to do about a plugin that fails, with `error` if it raised one."""
        if self.builtin:
            return f"reinstall {PACKAGE}: `pip install --force-reinstall {PACKAGE}`"
        absent = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
        first = (f"`pip install {absent.split('.')[0]}` if it needs that, " if absent not in ("", self.point.module)
                 else "")
        return f"{first}`pip install --upgrade {self.package}`, or leave it out: {SWITCH}=\"\" turns plugins off"


@dataclass(frozen=True)
class PluginProblem:
    """A plugin that was skipped, why, and what to do about it."""

    group: str
    name: str
    package: str
    message: str
    hint: str = ""


def found(group: str | None = None) -> list[Plugin]:
    """Every plugin on this machine, of one group or of all; switched off ones and shadowed ones too.

    Built-ins first, then by package. No plugin code runs.
    """
    return scan(group)[0]


def usable(group: str) -> list[Plugin]:
    """The plugins of a group that are switched on, built-ins first. ConfigError when there is no such group."""
    if group not in GROUPS:
        raise ConfigError(f"no plugin group '{group}'", f"one of: {', '.join(GROUPS)}")
    return [plugin for plugin in found(group) if plugin.enabled]


def entries(group: str) -> dict[str, Plugin]:
    """The usable plugins of a group by name, nothing loaded; the first package to claim a name has it."""
    chosen: dict[str, Plugin] = {}
    for plugin in usable(group):
        chosen.setdefault(plugin.name, plugin)
    return chosen


def find(group: str, name: str) -> Plugin:
    """The plugin called `name`, or PACKAGE:NAME, not loaded. ConfigError with near names when there is none."""
    plugins = usable(group)
    for plugin in plugins:
        if name in (plugin.name, plugin.full_name):
            return plugin
    names = list(dict.fromkeys(plugin.name for plugin in plugins))
    near = difflib.get_close_matches(name, names, n=3)
    known = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
    raise ConfigError(f"no '{name}' in {group}", f"{known}; `sigan plugins` shows what is installed")


def load(group: str, name: str) -> object:
    """The object called `name`, or PACKAGE:NAME, in `group`. ConfigError when there is none, or when it fails."""
    return find(group, name).load()


def load_callable(group: str, name: str) -> Callable[..., Any]:
    """The class or function called `name` in `group`, as `load`. ConfigError, too, when it is something else."""
    plugin = find(group, name)
    found = plugin.load()
    if not callable(found):
        raise ConfigError(f"{plugin} is no class or function, but of type {type(found).__name__}", plugin.remedy())
    return found


def shadowed(plugins: Iterable[Plugin]) -> list[PluginProblem]:
    """A problem for each of `plugins`, in the order of `found`, whose name an earlier package has taken."""
    first: dict[tuple[str, str], Plugin] = {}
    for plugin in plugins:
        if plugin.enabled:
            first.setdefault((plugin.group, plugin.name), plugin)
    return [PluginProblem(plugin.group, plugin.name, plugin.package,
                          f"'{plugin.name}' is taken by package {first[plugin.group, plugin.name].package}",
                          f"write {plugin.full_name}, or uninstall one of the two")
            for plugin in plugins if plugin.enabled and plugin != first[plugin.group, plugin.name]]


# ---- the lists

def scan(group: str | None = None) -> tuple[list[Plugin], list[PluginProblem]]:
    """All plugins in the order of `found`, and a problem for each package whose list cannot be read."""
    chosen, seen, plugins, problems = allowed(), set(), [], []
    for dist in metadata.distributions():
        text = dist.read_text("entry_points.txt") or ""
        if f"[{group or 'sigan.'}" not in text:  # most packages: do not parse what is not for us, `--help` waits
            continue
        package, version = _identity(dist)
        if package in seen:  # an older copy, later on the path
            continue
        seen.add(package)
        enabled = package == PACKAGE or chosen is None or package in chosen
        try:
            points = [point for point in dist.entry_points if point.group in ([group] if group else GROUPS)]
        except Exception as error:  # importlib raises whatever a malformed line provokes
            problems.append(PluginProblem("", "", package, f"the entry points of package {package} cannot be read: "
                                          f"{type(error).__name__}: {error}", f"`pip install --upgrade {package}`"))
            continue
        plugins += [Plugin(point.group, point.name, package, version, point.value, enabled, point) for point in points]
    order = list(GROUPS)
    return sorted(plugins, key=lambda p: (order.index(p.group), not p.builtin, p.package, p.name)), problems


def _identity(dist: metadata.Distribution) -> tuple[str, str]:
    """Name (PEP 503) and version. Reads the head of the metadata only: importlib parses the whole README with it."""
    head: dict[str, str] = {}
    for line in (dist.read_text("METADATA") or dist.read_text("PKG-INFO") or "").splitlines():
        if not line:
            break
        key, _, value = line.partition(":")
        head.setdefault(key.lower(), value.strip())
    return _normal(head.get("name", "?")), head.get("version", "")


def allowed() -> set[str] | None:
    """Packages that SIGAN_PLUGINS lets in, or None when it is not set."""
    value = os.environ.get(SWITCH)
    return None if value is None else {_normal(part) for part in value.split(",") if part.strip()}


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package.strip()).lower()
