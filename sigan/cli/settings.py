"""The file of `--config`: TOML to the defaults of commands, every name in it checked before anything runs.

What stands outside the tables is for every command that has the option; `[stylize]` is for one command, and
`[bases.sample]` for one of a group. Options are named as on the command line, without the dashes.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigan.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file. ConfigError when it cannot be read."""
    try:
        tables: dict[str, Any] = tomllib.loads(Path(path).read_text("utf-8"))
        return tables
    except OSError as error:
        hint = "--config and SIGAN_CONFIG name a TOML file"
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint) from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ConfigError(f"{path} is no TOML: {error}", "see docs/configuration.md") from error


def defaults(path: str | Path, command: Any) -> dict[str, Any]:
    """What `path` sets, as click's default map for `command`, the whole command line. ConfigError names a stray key."""
    made: dict[str, Any] = _Table(read(path), {}, str(path), "").fit(command)
    return made


@dataclass(frozen=True)
class _Table:
    """A table of the file, with what the tables around it set for every command."""

    own: Mapping[str, Any]
    inherited: Mapping[str, Any]
    path: str
    where: str

    def fit(self, command: Any) -> Any:
        """The default map of `command`; for a plugin's that is not loaded yet the table itself, which fits later."""
        if command.context_settings.get("ignore_unknown_options"):
            return self
        keys = {key.replace("_", "-"): value for key, value in self.own.items() if not isinstance(value, dict)}
        tables = {key: value for key, value in self.own.items() if isinstance(value, dict)}
        children = getattr(command, "commands", {})
        self._refuse_strangers("option", keys, {name for leaf in _leaves(command) for name in _options(leaf)})
        self._refuse_strangers("command", tables, set(children))
        chosen = {**self.inherited, **keys}
        if children:
            return {name: _Table(tables.get(name, {}), chosen, self.path, f"{self.where} {name}").fit(child)
                    for name, child in children.items()}
        options = _options(command)
        return {options[key].name: self._checked(options[key], key, value)
                for key, value in chosen.items() if key in options}

    def _checked(self, param: Any, key: str, value: Any) -> Any:
        """The value, when it is a truth value for a flag and only there; other types are checked where it is used."""
        if bool(param.is_flag) != isinstance(value, bool):
            raise ConfigError(f"{self.path}: {key} of `sigan{self.where}` is {value!r}",
                              "it must be true or false" if param.is_flag else "it takes a value")
        return value

    def _refuse_strangers(self, what: str, keys: Iterable[str], known: set[str]) -> None:
        for key in set(keys) - known:
            near = difflib.get_close_matches(key, known, n=2)
            raise ConfigError(f"{self.path}: `sigan{self.where}` has no {what} '{key}'",
                              f"did you mean {' or '.join(near)}?" if near else "--help lists them")


def _options(command: Any) -> dict[str, Any]:
    """The options of a command by name without dashes."""
    return {name[2:]: param for param in command.params if param.param_type_name == "option"
            for name in param.opts if name.startswith("--")}


def _leaves(command: Any) -> Iterator[Any]:
    """Every command of `command` that has none of its own; itself, if so."""
    for child in getattr(command, "commands", {}).values():
        yield from _leaves(child)
    if not getattr(command, "commands", None):
        yield command
