"""Errors a user can cause and mend; `sigan.cli.app` alone turns them into text and an exit code.

    SiganError                 1  unexpected
    ├── ConfigError            2  an option or field outside its range
    │   └── UnknownStyleError  2  no such style; near names in the hint
    ├── InputError             3  a file that cannot be used
    │   ├── UnreadableImageError  3
    │   └── NoFaceError        4
    ├── OutputError            2  a destination that cannot be written
    ├── WeightsError           5  missing or corrupt weights
    │   └── OfflineError       6  not cached, and the network is forbidden
    └── PackError              7  a pack that is invalid or belongs to another base
"""

from __future__ import annotations


class SiganError(Exception):
    """What happened and with which value (`message`), and what to do about it (`hint`)."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[SiganError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class ConfigError(SiganError):
    """An option or a field outside its range, or a name that is not there."""

    exit_code = 2


class UnknownStyleError(ConfigError):
    """No style of that name; the hint has near ones."""


class InputError(SiganError):
    """A file that cannot be used."""

    exit_code = 3


class UnreadableImageError(InputError):
    """A file that is no picture, or a damaged one."""


class NoFaceError(InputError):
    """A picture in which no face was found."""

    exit_code = 4


class OutputError(SiganError):
    """A destination that cannot be written."""

    exit_code = 2


class WeightsError(SiganError):
    """Weights that are missing or corrupt."""

    exit_code = 5


class OfflineError(WeightsError):
    """Weights that are not here while the network is forbidden or away."""

    exit_code = 6


class PackError(SiganError):
    """A pack that is invalid, or belongs to another base."""

    exit_code = 7
