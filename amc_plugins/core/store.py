"""Scores of a search on disk: every evaluation is committed to SQLite the moment it is known.

The table `evaluations` is the search's trajectory: `position` is the place of a candidate in the order in which the tuner
asked. The tuner's state is written beside it from time to time, with the number of evaluations that it has been told; those
after it are told again when a killed search goes on, so nothing that was scored is scored twice. The table `others` holds
scores outside the trajectory: the starts that a search is measured by, what was confirmed on unseen data, and whole networks
that were measured.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from amc_plugins.core.errors import SettingsError

__all__ = ["SCORES", "EvaluationStore", "StoredState"]

SCORES = "evaluations.sqlite"
"""The file in a search's folder."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS evaluations (
    position INTEGER PRIMARY KEY, candidate TEXT NOT NULL UNIQUE, objectives TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS others (
    purpose TEXT NOT NULL, candidate TEXT NOT NULL, objectives TEXT NOT NULL, PRIMARY KEY (purpose, candidate)
);
"""

Purpose = Literal["start", "confirm", "measured"]


@dataclass(frozen=True)
class StoredState:
    """A tuner's state after the first `told` evaluations."""

    state: dict[str, Any]
    told: int


class EvaluationStore:
    """The evaluations of one search. A context that closes the file; one process at a time may have it open.

    Args:
        path: the SQLite file; made with its folder when missing.
        identity: what the scores depend on (network, data, method, settings, seed, ...), as JSON data.

    Raises:
        SettingsError: the file holds another search (the message names what differs), or another process has it open.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any]) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(path)
        self._database = sqlite3.connect(path)
        try:
            self._database.executescript(_SCHEMA)
            self._check(path, identity)
        except BaseException:
            self._close()
            raise

    def _check(self, path: Path, identity: Mapping[str, Any]) -> None:
        wanted = json.loads(json.dumps(identity, sort_keys=True))
        found = self._meta("identity")
        if found is None:
            with self._database:
                self._set_meta("identity", json.dumps(wanted, sort_keys=True))
            return
        before = json.loads(found)
        different = sorted(key for key in {*before, *wanted} if before.get(key) != wanted.get(key))
        if different:
            raise SettingsError(
                f"`{path}` holds another search: {', '.join(different)} differ", hint="give the new search a folder of its own"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        self._database.close()
        if self._lock is not None:
            self._lock.close()

    def _meta(self, key: str) -> str | None:
        row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _set_meta(self, key: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def evaluations(self) -> dict[int, tuple[dict[str, int], dict[str, float]]]:
        """(candidate, objectives) by position, ascending."""
        rows = self._database.execute("SELECT position, candidate, objectives FROM evaluations ORDER BY position")
        return {place: (json.loads(candidate), json.loads(objectives)) for place, candidate, objectives in rows}

    def others(self, purpose: Purpose) -> list[tuple[dict[str, int], dict[str, float]]]:
        """(candidate, objectives) outside the trajectory."""
        rows = self._database.execute("SELECT candidate, objectives FROM others WHERE purpose = ? ORDER BY rowid", (purpose,))
        return [(json.loads(candidate), json.loads(objectives)) for candidate, objectives in rows]

    def state(self) -> StoredState | None:
        """The last state that was written."""
        found = self._meta("state")
        return None if found is None else StoredState(**json.loads(found))

    def limit(self) -> float | None:
        """The budget of the search, in the units of its cost."""
        found = self._meta("limit")
        return None if found is None else float(found)

    def set_limit(self, limit: float) -> None:
        with self._database:
            self._set_meta("limit", repr(limit))

    def add(self, position: int, candidate: Mapping[str, int], objectives: Mapping[str, float]) -> None:
        """Write one evaluation of the trajectory."""
        with self._database:
            self._database.execute(
                "INSERT INTO evaluations VALUES (?, ?, ?)", (position, _text(candidate), json.dumps(dict(objectives)))
            )

    def add_other(self, purpose: Purpose, candidate: Mapping[str, int], objectives: Mapping[str, float]) -> None:
        """Write one score outside the trajectory."""
        with self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO others VALUES (?, ?, ?)", (purpose, _text(candidate), json.dumps(dict(objectives)))
            )

    def save_state(self, state: Mapping[str, Any], told: int) -> None:
        """Write the tuner's state after `told` evaluations, in place of the one before."""
        with self._database:
            self._set_meta("state", json.dumps({"state": state, "told": told}))


def _text(candidate: Mapping[str, int]) -> str:
    return json.dumps(dict(candidate), sort_keys=True)


def _locked(path: Path) -> IO[bytes] | None:
    """An open file that locks the store until it is closed or the process dies; None where there are no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    lock = path.with_suffix(".lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise SettingsError(
            f"another process is searching in `{path.parent}`", hint="wait for it, or give this search a folder of its own"
        ) from error
    return lock
