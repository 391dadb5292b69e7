"""Single bytes of a file, locked by one process at a time, and free again the moment that process is gone.

The byte need not exist. Where the system or the file system has no such locks (Windows, some network file systems),
every lock is granted: processes may then do the same work, each of it whole.
"""

from __future__ import annotations

import errno
import os
import struct
import sys

try:
    import fcntl
except ImportError:  # no POSIX
    fcntl = None  # type: ignore[assignment]  # a module to mypy, which has no word for one that may be absent

# Linux can tie locks to the open file, so that neither another thread's descriptor nor its closing interferes.
OWNED_BY_FILE = hasattr(fcntl, "F_OFD_SETLK") and sys.maxsize > 2**32
TAKEN = (errno.EAGAIN, errno.EACCES)


def take(file: int, place: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Whether the byte at `place` of the descriptor `file`, open for writing, is locked now; `wait` makes it so."""
    if fcntl is None:
        return True
    try:
        _set(file, place, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, wait)
    except OSError as error:
        return error.errno not in TAKEN
    return True


def give(file: int, place: int) -> None:
    """Frees the byte."""
    if fcntl is not None:
        try:
            _set(file, place, fcntl.F_UNLCK, False)
        except OSError:
            return  # a file system without locks


def hold(file: int) -> bool:
    """Whether locks on this file are more than granted: another process can tell that it is not alone."""
    if fcntl is None:
        return False
    try:
        _set(file, 0, fcntl.F_UNLCK, False)
    except OSError:
        return False
    return True


def _set(file: int, place: int, kind: int, wait: bool) -> None:
    if OWNED_BY_FILE:  # struct flock of 64-bit Linux: type, whence, start, length, process
        how = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
        fcntl.fcntl(file, how, struct.pack("hhqqi0q", kind, os.SEEK_SET, place, 1, 0))
        return
    operation = {fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_UNLCK: fcntl.LOCK_UN}[kind]
    free_or_waiting = wait or kind == fcntl.F_UNLCK
    fcntl.lockf(file, operation if free_or_waiting else operation | fcntl.LOCK_NB, 1, place, os.SEEK_SET)
