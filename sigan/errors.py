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

    def __reduce__(self):
        return type(self), (self.message, self.hint)


class ConfigError(SiganError):
    exit_code = 2


class UnknownStyleError(ConfigError):
    pass


class InputError(SiganError):
    exit_code = 3


class UnreadableImageError(InputError):
    pass


class NoFaceError(InputError):
    exit_code = 4


class OutputError(SiganError):
    exit_code = 2


class WeightsError(SiganError):
    exit_code = 5


class OfflineError(WeightsError):
    exit_code = 6


class PackError(SiganError):
    exit_code = 7
