"""A journal of cycles that can be decided again: one JSON line each, profiles once, memory at checkpoints.

Who calls it: `cycle` writes; a verifier reads (`cycles`). The memory after one line is the memory before the next,
so only the first line of a file and every hundredth carry it in full; every line carries its hash. Blind direction:
a journal that cannot be written is counted and the cycle goes on, for serving matters more than its diary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from capstan import decide
from capstan.model import fleet, plan
from capstan.model.policy import Policy
from capstan.model.profile import Profile
from capstan.serving import codec, manifest

MAX_BYTES = 64 * 2**20  # with one predecessor kept: about two days of two policies at a 5 s period
CHECKPOINT_LINES = 100


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle saw and decided. `memory` is None between checkpoints: carry the previous outcome's."""

    observed: fleet.Observed
    policies: tuple[Policy, ...]
    profiles: tuple[Profile, ...]
    settings: decide.Settings
    decision: plan.Decision
    memory: plan.Memory | None


class Journal:
    """Appends cycles to a file, and starts a new one (keeping one predecessor) when it grows past its bound."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._known: set[str] = set()
        self._hashes: dict[Profile, str] = {}
        self._lines = 0
        self._lost_lines = 0

    @property
    def lost_lines(self) -> int:
        """Return how many lines could not be written (disk full, read-only)."""
        return self._lost_lines

    def write(self, cycle: Cycle) -> None:
        """Append one cycle, which must hold its memory, and first the profiles that this file does not know yet."""
        hashes = {self._hash(p): p for p in cycle.profiles}
        try:
            self._rotate()
            lines = [{"profile": h, "value": codec.encode(p)} for h, p in hashes.items() if h not in self._known]
            lines.append(self._line(cycle, tuple(hashes)))
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        except OSError:
            self._lost_lines += 1
            self._lines = 0  # the next line that can be written is a checkpoint
            return
        self._known.update(hashes)
        self._lines += 1

    def _hash(self, profile: Profile) -> str:
        if profile not in self._hashes:
            self._hashes[profile] = manifest.content_hash(_object(codec.encode(profile)))
        return self._hashes[profile]

    def _line(self, cycle: Cycle, hashes: tuple[str, ...]) -> dict[str, codec.Json]:
        full = self._lines % CHECKPOINT_LINES == 0
        return {
            "cycle": round(cycle.observed.now_s, 3),
            "observed": codec.encode(cycle.observed),
            "policies": codec.encode(cycle.policies),
            "profiles": list(hashes),
            "settings": codec.encode(cycle.settings),
            "decision": codec.encode(cycle.decision.policies),
            "memory": codec.encode(cycle.memory) if full else None,
            "memoryAfter": memory_hash(cycle.decision.memory),
        }

    def _rotate(self) -> None:
        if not self._path.exists() or self._path.stat().st_size < self._max_bytes:
            return
        self._path.replace(self._path.with_suffix(self._path.suffix + ".1"))
        self._known.clear()
        self._lines = 0


class Nothing:
    """Records nothing: `--record` was not given."""

    def write(self, cycle: Cycle) -> None:
        """Forget the cycle."""


def memory_hash(memory: plan.Memory) -> str:
    """Return the hash that a line keeps of the memory after its decision."""
    return manifest.content_hash(_object(codec.encode(memory)))


def cycles(lines: Iterable[str]) -> Iterator[tuple[Cycle, str]]:
    """Yield each recorded cycle and the hash of its memory afterwards.

    Raises:
        Unreadable: A line is not one of ours, or names a profile that came in no line before it.
    """
    profiles: dict[str, Profile] = {}
    for number, text in enumerate(lines, start=1):
        line = _object(json.loads(text))
        if "profile" in line:
            profiles[str(line["profile"])] = codec.decode(Profile, line["value"])
            continue
        try:
            yield _cycle(line, profiles), str(line["memoryAfter"])
        except KeyError as missing:
            raise codec.Unreadable(f"line {number} lacks {missing}") from missing


def verify(lines: Iterable[str]) -> Iterator[float]:
    """Decide every recorded cycle again and yield `now_s` of each whose outcome differs.

    Lines before the first checkpoint are skipped: nobody knows what was remembered then.
    """
    memory: plan.Memory | None = None
    for cycle, hash_after in cycles(lines):
        memory = cycle.memory if cycle.memory is not None else memory
        if memory is None:
            continue
        again = decide.decide(cycle.observed, cycle.policies, cycle.profiles, memory, cycle.settings)
        if again.policies != cycle.decision.policies or memory_hash(again.memory) != hash_after:
            yield cycle.observed.now_s
        memory = again.memory


def _cycle(line: dict[str, codec.Json], profiles: dict[str, Profile]) -> Cycle:
    hashes = line["profiles"]
    memory = line["memory"]
    decision = plan.Decision(policies=(), memory=plan.Memory())
    return Cycle(
        observed=codec.decode(fleet.Observed, line["observed"]),
        policies=codec.decode(_Policies, {"value": line["policies"]}).value,
        profiles=tuple(profiles[str(h)] for h in hashes) if isinstance(hashes, list) else (),
        settings=codec.decode(decide.Settings, line["settings"]),
        decision=replace(decision, policies=codec.decode(_Decisions, {"value": line["decision"]}).value),
        memory=None if memory is None else codec.decode(plan.Memory, memory),
    )


@dataclass(frozen=True, slots=True)
class _Policies:
    value: tuple[Policy, ...]


@dataclass(frozen=True, slots=True)
class _Decisions:
    value: tuple[plan.PolicyDecision, ...]


def _object(raw: codec.Json) -> dict[str, codec.Json]:
    if not isinstance(raw, dict):
        raise codec.Unreadable("a line is not a JSON object")
    return raw
