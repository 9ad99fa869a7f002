"""Scores of a search on disk: every evaluation is committed to SQLite the moment it is known, with the tuner's state."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from amc_plugins.core.errors import SettingsError

__all__ = ["EvaluationStore"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS evaluations (
    position INTEGER PRIMARY KEY, candidate TEXT NOT NULL UNIQUE, objectives TEXT NOT NULL
);
"""


class EvaluationStore:
    """The evaluations of one search, in the order they were made. A context that closes the file.

    Args:
        path: the SQLite file; made with its folder when missing.
        identity: what the scores depend on (network, method, settings, seed, ...), as JSON data.

    Raises:
        SettingsError: the file holds another search; the message names what differs.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any]) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path)
        self._database.executescript(_SCHEMA)
        wanted = json.dumps(identity, sort_keys=True)
        found = self._meta("identity")
        if found is None:
            self._set_meta("identity", wanted)
            self._database.commit()
        elif found != wanted:
            before = json.loads(found)
            different = sorted(key for key in {*before, *identity} if before.get(key) != json.loads(wanted).get(key))
            self._database.close()
            raise SettingsError(
                f"`{path}` holds another search: {', '.join(different)} differ", hint="give the new search a folder of its own"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._database.close()

    def _meta(self, key: str) -> str | None:
        row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _set_meta(self, key: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def evaluations(self) -> list[tuple[dict[str, int], dict[str, float]]]:
        """(candidate, objectives) in order."""
        rows = self._database.execute("SELECT candidate, objectives FROM evaluations ORDER BY position")
        return [(json.loads(candidate), json.loads(objectives)) for candidate, objectives in rows]

    def state(self) -> dict[str, Any] | None:
        """The tuner's state after the last evaluation."""
        found = self._meta("state")
        return None if found is None else json.loads(found)

    def add(self, candidate: Mapping[str, int], objectives: Mapping[str, float], state: Mapping[str, Any]) -> None:
        """Write one evaluation and the state after it, in one transaction."""
        with self._database:
            self._database.execute(
                "INSERT INTO evaluations (candidate, objectives) VALUES (?, ?)",
                (json.dumps(dict(candidate), sort_keys=True), json.dumps(dict(objectives))),
            )
            self._set_meta("state", json.dumps(state))
