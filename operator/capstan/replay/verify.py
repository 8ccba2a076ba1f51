"""A record of the live loop, decided again: every decision, and the memory after it, must come out the same.

Who calls it: `capstan replay verify` and the rig's demo, at its end. The lines are `journal.record`'s, the decision is
`decide.decide`, the one that ran live. Must not know: how a record is written.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import capstan
from capstan import decide
from capstan.forecast import known
from capstan.forecast.calendar import Calendar
from capstan.forecast.known import Known
from capstan.journal import codec, record
from capstan.journal.codec import Json, Unreadable
from capstan.model import plan
from capstan.model.past import Past
from capstan.model.policy import Policy

GZIP = b"\x1f\x8b"
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a decision first came out otherwise: the line, the policy, the field, and both values as JSON."""

    line: int
    now_s: float
    writer: str
    version: str
    policy: str
    field: str
    recorded: Json
    decided: Json

    def __str__(self) -> str:
        """Return it in one line of words."""
        at = datetime.fromtimestamp(self.now_s, UTC).isoformat(timespec="milliseconds")
        other = (
            "" if self.version == capstan.__version__ else f" (capstan {self.version}; this is {capstan.__version__})"
        )
        return (
            f"line {self.line}, {at}, writer {self.writer}{other}: policy {self.policy}, {self.field}: "
            f"recorded {_short(self.recorded)}, decided {_short(self.decided)}"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a file. `torn` are the lines cut off when a writer was killed; they hold no decision to compare."""

    decisions: int
    equal: int
    writers: tuple[str, ...]
    first: Difference | None
    torn: tuple[int, ...]

    def __str__(self) -> str:
        """Return it in words, one line each."""
        who = f"{len(self.writers)} writer{'s' * (len(self.writers) > 1)}: {', '.join(self.writers)}"
        lines = [f"{self.decisions} decisions ({who}), {self.equal} equal when decided again"]
        lines += [f"line {line} was cut off while it was written (writer killed or disk full)" for line in self.torn]
        if self.first is not None:
            lines.append(f"first difference: {self.first}")
        return "\n".join(lines)


def silent(_share: float) -> None:
    """Tell nobody how far it is."""


def of_file(path: Path, progress: Progress = silent) -> Verdict:
    """Decide a recorded file again, gz or not; `progress` hears the share that is done, line by line.

    Raises:
        Unreadable: The file cannot be read, or is no record, or not a whole one; names the line.
    """
    try:
        return of_lines(_lines(path, progress))
    except OSError as problem:
        raise Unreadable(f"{problem.strerror or problem}; give a file that can be read") from problem
    except (EOFError, zlib.error) as problem:
        raise Unreadable("the gz is cut off or damaged; fetch the file again") from problem


def of_lines(lines: Iterable[str]) -> Verdict:
    """Decide recorded lines (with their line ends) again.

    Raises:
        Unreadable: A line is not one of a record, or there is no decision in it.
    """
    memories: dict[str, plan.Memory] = {}  # by writer: what its last cycle left
    histories = _Histories()
    decisions, equal, torn = 0, 0, []
    first: Difference | None = None
    for found in record.read(lines):
        if isinstance(found, record.Torn):
            torn.append(found.line)
            continue
        memory = found.memory if found.memory is not None else memories.get(found.writer)
        if memory is None:
            raise Unreadable(f"line {found.line}: what was remembered before it is missing; give the whole file")
        again = _again(found, memory, histories)
        memories[found.writer] = again.memory
        decisions += 1
        difference = _difference(found, again)
        equal += difference is None
        first = first or difference
    if not decisions:
        raise Unreadable("there is no decision in it; was the operator's `--record` file meant?")
    return Verdict(decisions, equal, tuple(memories), first, tuple(torn))


class _Histories:
    """What recorded pasts say, made once for each: the past of a day is in thousands of cycles."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Past, Calendar, Known]] = {}

    def of(self, found: record.Recorded) -> tuple[Known, ...]:
        """Return the histories that a recorded cycle rested on."""
        policies = {policy.key: policy for policy in found.policies}
        return tuple(self._of(found, past, policies[past.policy]) for past in found.pasts if past.policy in policies)

    def _of(self, found: record.Recorded, past: Past, policy: Policy) -> Known:
        seen = found.observed.of(policy.key)
        product = None if seen is None else seen.gpu_product
        slots = decide.horizon_slots(policy, found.profiles, found.settings, gpu_product=product)
        calendar = found.settings.calendar
        made = self._made.get(policy.key)
        if made is not None and made[0] is past and made[1] == calendar and made[2].tracker.horizon_slots == slots:
            return made[2]
        again = known.of_past(past, calendar, horizon_slots=slots)
        self._made[policy.key] = (past, calendar, again)
        return again


def _again(found: record.Recorded, memory: plan.Memory, histories: _Histories) -> plan.Decision:
    """Decide a recorded cycle again; what no operator can have seen (the line was changed) is told as such."""
    try:
        told = histories.of(found)
        return decide.decide(found.observed, found.policies, found.profiles, memory, found.settings, told)
    except (ValueError, ArithmeticError) as problem:
        raise Unreadable(f"line {found.line}: cannot be decided: {problem}; the line was changed") from problem


def _difference(found: record.Recorded, again: plan.Decision) -> Difference | None:
    """Return the first field that differs: of the decision, else of the memory after it."""
    pairs = (
        ("", codec.encode(found.decided), codec.encode(again.policies)),
        ("memory.", found.digest, record.digest(again.memory)),
    )
    for prefix, recorded, decided in pairs:
        for policy, field, was, now in _policies(recorded, decided):
            return Difference(
                found.line, found.observed.now_s, found.writer, found.version, policy, prefix + field, was, now
            )
    return None


Differing = Iterator[tuple[str, str, Json, Json]]


def _policies(recorded: Json, decided: Json) -> Differing:
    """Yield (policy, field, recorded, decided) of each difference between two lists of one entry per policy."""
    was, now = _keys(recorded), _keys(decided)
    if was is None or was != now:
        yield "(all)", "policies", list(was or ()), list(now or ())
        return
    for policy, one, other in zip(was, _items(recorded), _items(decided), strict=True):
        yield from ((str(policy), field, a, b) for field, a, b in _fields(one, other, ""))


def _fields(recorded: Json, decided: Json, at: str) -> Iterator[tuple[str, Json, Json]]:
    """Yield (field, recorded, decided) of each leaf that differs."""
    if isinstance(recorded, dict) and isinstance(decided, dict) and recorded.keys() == decided.keys():
        for name in recorded:
            yield from _fields(recorded[name], decided[name], f"{at}.{name}" if at else name)
    elif isinstance(recorded, list) and isinstance(decided, list) and len(recorded) == len(decided):
        for i, (one, other) in enumerate(zip(recorded, decided, strict=True)):
            yield from _fields(one, other, f"{at}[{i}]")
    elif recorded != decided:
        yield at, recorded, decided


def _keys(raw: Json) -> list[Json] | None:
    """Return the policies of a list of entries; None where it is no such list."""
    if not isinstance(raw, list) or not all(isinstance(item, dict) for item in raw):
        return None
    return [item.get("policy") for item in raw if isinstance(item, dict)]


def _items(raw: Json) -> list[Json]:
    return raw if isinstance(raw, list) else []


def _short(value: Json) -> str:
    """Return a value for a person: a long list by its length."""
    if isinstance(value, list) and len(value) > record.DIGEST_ITEMS:
        return f"{len(value)} items"
    if isinstance(value, dict) and codec.TAG in value and value[codec.TAG] == codec.NOT_FINITE:
        return str(value["value"])
    return "none" if value is None else str(value)


def _lines(path: Path, progress: Progress) -> Iterator[str]:
    """Yield the lines of a file with their ends; bytes that are no text come out as a replacement, and fail later."""
    size_bytes = max(path.stat().st_size, 1)
    with path.open("rb") as raw:
        packed = raw.read(len(GZIP)) == GZIP
        raw.seek(0)
        for line in gzip.GzipFile(fileobj=raw) if packed else raw:
            yield line.decode("utf-8", errors="replace")
            progress(min(raw.tell() / size_bytes, 1.0))
