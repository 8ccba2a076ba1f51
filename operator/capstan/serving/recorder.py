"""Writes every cycle down so that it can be decided again (`capstan replay verify`): JSON lines, bounded.

Who calls it: `cycle`. The lines are `journal.record`'s. Blind direction: a journal that cannot be written is counted
and the cycle goes on, for serving matters more than its diary.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import capstan
from capstan.journal import codec, record
from capstan.model import plan
from capstan.model.past import Past
from capstan.model.profile import Profile

MAX_BYTES = 64 * 2**20  # with one predecessor: 0.6 to 1.2 days of two policies at a 5 s period (3.3 kB each, measured)
CHECKPOINT_LINES = 100


class Journal:
    """Appends cycles to a file, and starts a new one (keeping one predecessor) when it grows past its bound."""

    def __init__(self, path: Path, *, writer: str = "", max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._writer = writer
        self._max_bytes = max_bytes
        self._known: set[str] = set()
        self._lines_of: dict[Profile, tuple[str, str]] = {}
        self._pasts: dict[str, tuple[Past, str, dict[str, str]]] = {}  # by policy: the past, its hash, its lines
        self._after: plan.Memory | None = None
        self._lines = 0
        self._end: tuple[int, int] | None = None  # (inode, size) after our last line; None: begin anew
        self._lost_lines = 0

    @property
    def lost_lines(self) -> int:
        """Return how many lines could not be written (disk full, read-only)."""
        return self._lost_lines

    def write(self, cycle: record.Cycle) -> None:
        """Append one cycle, and first what this file does not know yet: who we are, profiles and pasts."""
        try:
            begin = self._begin()
            profiles = dict(self._profile(p) for p in cycle.profiles)
            pasts = self._told(cycle.pasts)
            told = {**profiles, **{h: t for _, _, lines in pasts.values() for h, t in lines.items()}}
            hashes = record.Hashes(tuple(profiles), tuple(found for _, found, _ in pasts.values()))
            self._append([*begin, *(t for h, t in told.items() if h not in self._known), self._line(cycle, hashes)])
        except (OSError, codec.Unreadable):
            self._lost_lines += 1
            self._end = None
            return
        self._known.update(told)
        self._after = cycle.decision.memory
        self._lines += 1

    def _line(self, cycle: record.Cycle, hashes: record.Hashes) -> str:
        due = self._lines % CHECKPOINT_LINES == 0
        carried = cycle.memory == self._after  # not so where a status told of a policy that is new to this process
        return record.cycle_line(cycle, hashes, writer=self._writer, checkpoint=due or not carried)

    def _profile(self, profile: Profile) -> tuple[str, str]:
        if profile not in self._lines_of:
            self._lines_of[profile] = record.profile_line(profile)
        return self._lines_of[profile]

    def _told(self, pasts: Iterable[Past]) -> dict[str, tuple[Past, str, dict[str, str]]]:
        """Return each past with its hash and lines; one that is the same object as before is not looked at again."""
        before, self._pasts = self._pasts, {}
        for past in pasts:
            known = before.get(past.policy)
            self._pasts[past.policy] = known if known and known[0] is past else (past, *record.past_lines(past))
        return self._pasts

    def _begin(self) -> list[str]:
        """Return the lines that must come first: none, where the file is as we left it or longer."""
        found = self._path.stat() if self._path.exists() else None
        if found is not None and found.st_size >= self._max_bytes:
            self._path.replace(self._path.with_suffix(self._path.suffix + ".1"))
            found = None
        if found is not None and self._end is not None:
            inode, size_bytes = self._end
            if found.st_ino == inode and found.st_size >= size_bytes:
                return []
        self._known.clear()
        self._lines, self._after = 0, None
        torn = found is not None and found.st_size > 0 and not _ends_a_line(self._path)
        return ["\n"] * torn + [record.start_line(self._writer, capstan.__version__)]

    def _append(self, lines: list[str]) -> None:
        """Write in one call, so that two operators on one volume do not cut each other's lines."""
        data = "".join(lines).encode()
        with self._path.open("ab", buffering=0) as file:
            if file.write(data) != len(data):
                raise OSError("the disk took a part of the line")
            found = os.fstat(file.fileno())
        self._end = (found.st_ino, found.st_size)


class Nothing:
    """Records nothing: `--record` was not given."""

    def write(self, cycle: record.Cycle) -> None:
        """Forget the cycle."""


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
