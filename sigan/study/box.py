"""The ballot box: one SQLite file in the study folder. An answer that was acknowledged is on the disk.

Write-ahead log with `synchronous=FULL`: each answer is committed and synced before `vote` returns, so a kill or a power
cut loses none. Statements are constants, values go in as parameters. Participants are known by the hash of their token;
neither the token nor an address is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sigan.errors import InputError, OutputError
from sigan.study.ballots import Answer, Ballot
from sigan.study.plan import Study

FILE = "votes.sqlite"
MAX_PARTICIPANTS = 10_000
BUSY_SECONDS = 10.0
TABLES = """
CREATE TABLE IF NOT EXISTS study (hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS participants (
    id TEXT PRIMARY KEY, sheet INTEGER NOT NULL, language TEXT NOT NULL, practised TEXT NOT NULL, joined REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS votes (
    participant TEXT NOT NULL REFERENCES participants(id), position INTEGER NOT NULL, choice TEXT NOT NULL,
    ms INTEGER NOT NULL, received REAL NOT NULL, PRIMARY KEY (participant, position)
) WITHOUT ROWID;
"""


class Unknown(Exception):
    """No participant has that token, or no invitation that code."""


class Full(Exception):
    """The study has all the participants it can take."""


class OutOfTurn(Exception):
    """The place was answered otherwise before, or an earlier one is still open."""


@dataclass(frozen=True)
class Place:
    """Where a participant stands: the sheet, and how many of its questions are answered."""

    sheet: int
    answered: int


class BallotBox:
    """The votes of one study; several threads, and several processes, may use one file."""

    def __init__(self, folder: str | Path, study: Study, clock: Callable[[], float] = time.time) -> None:
        self.path, self.study, self._clock = Path(folder) / FILE, study, clock
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA foreign_keys=ON")
            self._db.executescript(TABLES)
            with self._writing() as db:
                if db.execute("SELECT hash FROM study").fetchone() is None:
                    db.execute("INSERT INTO study VALUES (?)", (study.hash,))
        except sqlite3.OperationalError as error:
            raise OutputError(f"{self.path}: cannot be written ({error})",
                              "check the folder's permissions and free space") from error
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self.path}: not a ballot box ({error})",
                             "restore the file from a copy, or move it away to begin with none") from error
        _check_study(self._db, self.path, study)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def join(self, language: str, practised: str, invitation: str = "") -> tuple[str, Place]:
        """A new participant's token and place: the sheet that fewest have. With an invitation the token is always the
        same, so that whoever opens the link again goes on. Raises Unknown or Full."""
        if self.study.invitations:
            if not any(hmac.compare_digest(invitation, known) for known in self.study.invitations):
                raise Unknown
            token = hmac.new(self.study.secret.encode(), invitation.encode(), hashlib.sha256).hexdigest()[:32]
        else:
            token = secrets.token_hex(16)
        identity = participant(token)
        with self._writing() as db:
            if place := self._place(identity):
                return token, place
            counts = dict(db.execute("SELECT sheet, COUNT(*) FROM participants GROUP BY sheet"))
            if sum(counts.values()) >= MAX_PARTICIPANTS:
                raise Full
            sheet = min(range(len(self.study.sheets)), key=lambda number: (counts.get(number, 0), number))
            db.execute("INSERT INTO participants VALUES (?, ?, ?, ?, ?)",
                       (identity, sheet, language, practised, self._clock()))
        return token, Place(sheet, 0)

    def place(self, token: str) -> Place:
        """Where the participant with that token stands; Unknown for none."""
        with self._lock:
            place = self._place(participant(token))
        if place is None:
            raise Unknown
        return place

    def vote(self, token: str, position: int, answer: Answer) -> int:
        """Stores an answer, and gives how many there are now. The same answer again changes nothing; OutOfTurn for
        another answer to a place, or a place before its turn; Unknown for a token nobody has."""
        identity = participant(token)
        with self._writing() as db:
            place = self._place(identity)
            if place is None:
                raise Unknown
            if position > place.answered:
                raise OutOfTurn
            if position < place.answered:
                row = db.execute("SELECT choice, ms FROM votes WHERE participant = ? AND position = ?",
                                 (identity, position)).fetchone()
                if row != (answer.choice, answer.ms):
                    raise OutOfTurn
                return place.answered
            db.execute("INSERT INTO votes VALUES (?, ?, ?, ?, ?)",
                       (identity, position, answer.choice, answer.ms, self._clock()))
        return place.answered + 1

    def _place(self, identity: str) -> Place | None:
        row = self._db.execute("SELECT sheet, (SELECT COUNT(*) FROM votes WHERE participant = id) FROM participants"
                               " WHERE id = ?", (identity,)).fetchone()
        return None if row is None else Place(*row)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; committed, and on the disk, when the block ends without an exception."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def participant(token: str) -> str:
    """What stands for a token in the file."""
    return hashlib.sha256(token.encode()).hexdigest()


def ballots(folder: str | Path, study: Study) -> list[Ballot]:
    """What every participant in the study folder's ballot box has answered; empty without a box.

    Reads only, and may be asked while the server runs. InputError for a damaged or foreign box.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return []
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)
        try:
            _check_study(db, path, study)
            rows = db.execute("SELECT id, sheet, language, practised, joined FROM participants ORDER BY joined, id")
            return [_ballot(db, study, *row) for row in rows.fetchall()]
        finally:
            db.close()
    except sqlite3.Error as error:
        raise InputError(f"{path}: not a ballot box that can be read ({error})",
                         "restore the file from a copy; with it belong the files -wal and -shm beside it") from error


def _ballot(db: sqlite3.Connection, study: Study, identity: str, sheet: int, language: str, practised: str,
            joined: float) -> Ballot:
    rows = db.execute("SELECT position, choice, ms, received FROM votes WHERE participant = ? ORDER BY position",
                      (identity,)).fetchall()
    if [row[0] for row in rows] != list(range(len(rows))) or len(rows) > study.length:
        raise sqlite3.DatabaseError("its answers have gaps: it was edited")
    elapsed = 1000 * (rows[-1][3] - joined) if rows else 0.0
    return Ballot(identity[:12], sheet, tuple(Answer(choice, ms) for _, choice, ms, _ in rows), language, practised,
                  elapsed, FILE)


def _check_study(db: sqlite3.Connection, path: Path, study: Study) -> None:
    try:
        row = db.execute("SELECT hash FROM study").fetchone()
    except sqlite3.DatabaseError as error:
        raise InputError(f"{path}: not a ballot box ({error})", "restore the file from a copy") from error
    if row is None or row[0] != study.hash:
        raise InputError(f"{path}: its votes belong to another study than the folder",
                         "put them back into their own study folder")
