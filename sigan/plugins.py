"""Entry-point groups -> names -> objects loaded on use; the built-ins come through the same door.

A plugin is any installed package with an entry point in one of `GROUPS`. Reading the lists runs no plugin code;
`load` and `load_all` do. `SIGAN_PLUGINS=""` leaves only the built-ins, a comma list of package names adds those alone.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata

from sigan.errors import ConfigError

PACKAGE = "sigan"
SWITCH = "SIGAN_PLUGINS"

GROUPS: Mapping[str, str] = {
    "sigan.styles": "style packs: a Path, a dict of name -> Path, or a callable that returns one of these",
    "sigan.bases": "face models",
    "sigan.aligners": "face detectors with landmarks",
    "sigan.inverters": "aligned faces to latent codes",
    "sigan.metrics": "measures for `sigan eval`",
    "sigan.engines": "ways to run the stylizer over many inputs",
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

    def load(self) -> object:
        """The object behind the name. ConfigError naming the package when its code fails."""
        try:
            return self.point.load()
        except (Exception, SystemExit) as error:  # a plugin's code may fail in any way
            raise ConfigError(f"{self.group} '{self.name}' of package {self.package} {self.version} does not load: "
                              f"{type(error).__name__}: {error}", _remedy(self.package)) from error


@dataclass(frozen=True)
class PluginProblem:
    """A plugin that was skipped, why, and what to do about it."""

    group: str
    name: str
    package: str
    message: str
    hint: str = ""


def found() -> list[Plugin]:
    """Every plugin on this machine, switched off ones and shadowed ones too; built-ins first, then by package."""
    allowed = _allowed()
    points, plugins = metadata.entry_points(), []  # one scan: each costs milliseconds that `--help` pays
    for group in GROUPS:
        for point in points.select(group=group):
            package = _normal(point.dist.name) if point.dist else "?"
            version = point.dist.version if point.dist else ""
            enabled = package == PACKAGE or allowed is None or package in allowed
            plugins.append(Plugin(group, point.name, package, version, point.value, enabled, point))
    order = list(GROUPS)
    return sorted(plugins, key=lambda p: (order.index(p.group), not p.builtin, p.package, p.name))


def entries(group: str) -> dict[str, Plugin]:
    """The usable plugins of a group by name, nothing loaded; the first package to claim a name has it."""
    if group not in GROUPS:
        raise ConfigError(f"no plugin group '{group}'", f"one of: {', '.join(GROUPS)}")
    chosen: dict[str, Plugin] = {}
    for plugin in found():
        if plugin.group == group and plugin.enabled:
            chosen.setdefault(plugin.name, plugin)
    return chosen


def load(group: str, name: str) -> object:
    """The object called `name` in `group`. ConfigError with near names when there is none, or when it fails."""
    plugins = entries(group)
    if name not in plugins:
        near = difflib.get_close_matches(name, plugins, n=3)
        known = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(plugins) or 'none'}"
        raise ConfigError(f"no '{name}' in {group}", f"{known}; `sigan plugins` shows what is installed")
    return plugins[name].load()


def load_all(group: str) -> tuple[dict[str, object], list[PluginProblem]]:
    """All objects of a group by name, and a problem for each plugin that had to be skipped."""
    objects: dict[str, object] = {}
    problems = shadowed(group)
    for name, plugin in entries(group).items():
        try:
            objects[name] = plugin.load()
        except ConfigError as error:
            problems.append(PluginProblem(group, name, plugin.package, error.message, error.hint))
    return objects, problems


def shadowed(group: str) -> list[PluginProblem]:
    """A problem for each plugin whose name an earlier package has taken."""
    chosen = entries(group)
    return [PluginProblem(group, plugin.name, plugin.package,
                          f"'{plugin.name}' is taken by package {chosen[plugin.name].package}",
                          f"uninstall one of the two, or name the wanted ones in {SWITCH}")
            for plugin in found() if plugin.group == group and plugin.enabled
            and plugin != chosen[plugin.name]]


def problems() -> list[PluginProblem]:
    """What is wrong with the installed plugins, all groups; loads every one of them."""
    listed = [problem for group in GROUPS for problem in load_all(group)[1]]
    missing = sorted((_allowed() or set()) - {plugin.package for plugin in found()})
    return listed + [PluginProblem("", "", package, f"{SWITCH} names '{package}', which adds nothing here",
                                   f"`pip install {package}`, or correct {SWITCH}") for package in missing]


def _allowed() -> set[str] | None:
    """Packages that SIGAN_PLUGINS lets in, or None when it is not set."""
    value = os.environ.get(SWITCH)
    return None if value is None else {_normal(part) for part in value.split(",") if part.strip()}


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package.strip()).lower()  # PEP 503


def _remedy(package: str) -> str:
    if package == PACKAGE:
        return f"reinstall {PACKAGE}: `pip install --force-reinstall {PACKAGE}`"
    return f"`pip install --upgrade {package}`, or leave it out: {SWITCH}=\"\" turns plugins off"
