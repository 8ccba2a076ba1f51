"""The lines of a record of decisions: what a writer puts into each, and how a reader gets the cycles back.

Who calls it: `serving.recorder` (`start_line` and the other `_line`s) and `replay.verify` (`read`).
A file stands alone: it begins with a start line, and so does every process that appends to it. A profile has one line,
before the first cycle that names its hash; likewise a policy's past and each block of it. The memory after a cycle is
the memory before the next one of the same writer, so it is written where that is not so, and now and then (a
checkpoint); every cycle has the digest of its memory after, which is small and still names the field.
Must not know: files, who reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from capstan import decide
from capstan.journal import codec
from capstan.journal.codec import Json, Unreadable
from capstan.model import fleet, plan
from capstan.model.past import Block, Past
from capstan.model.policy import Policy
from capstan.model.profile import Profile

T = TypeVar("T")
FORMAT = "capstan-decisions/2"
DIGEST_ITEMS = 8  # a list longer than this is its hash in a digest: the look-back of rates, up to 360 pairs

TRACKER = "Tracker"  # 3 kB of it per policy: what it comes to stands in the decision, and all of it in a checkpoint


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle saw, remembered and decided; `pasts` are those that its histories were made of."""

    observed: fleet.Observed
    policies: tuple[Policy, ...]
    profiles: tuple[Profile, ...]
    settings: decide.Settings
    decision: plan.Decision
    memory: plan.Memory
    pasts: tuple[Past, ...] = ()


@dataclass(frozen=True, slots=True)
class Recorded:
    """One cycle as its line has it.

    Attributes:
        line: Its number in the file, from 1.
        writer, version: Which operator wrote it, and the Capstan that it ran.
        decided: What was decided for each policy.
        memory: What was remembered before; None: what the writer's cycle before left.
        digest: `digest` of what was remembered after.
    """

    line: int
    writer: str
    version: str
    observed: fleet.Observed
    policies: tuple[Policy, ...]
    profiles: tuple[Profile, ...]
    settings: decide.Settings
    decided: tuple[plan.PolicyDecision, ...]
    memory: plan.Memory | None
    digest: Json
    pasts: tuple[Past, ...] = ()


@dataclass(frozen=True, slots=True)
class Torn:
    """A line that was cut off because its writer was killed, or its disk full, while writing it."""

    line: int


def start_line(writer: str, version: str) -> str:
    """Return the line that a process begins with."""
    return _line({"record": FORMAT, "writer": writer, "version": version})


def profile_line(profile: Profile) -> tuple[str, str]:
    """Return a profile's hash and its line."""
    value = codec.encode(profile)
    found = codec.content_hash(value)
    return found, _line({"profile": found, "value": value})


def past_lines(past: Past) -> tuple[str, dict[str, str]]:
    """Return the hash of a past, and every line that tells of it by hash: its blocks, then itself.

    A block that has ended never changes, so its line need not be written again when the past goes on.
    """
    lines: dict[str, str] = {}
    for block in past.blocks:
        value = codec.encode(block)
        lines[codec.content_hash(value)] = _line({"block": codec.content_hash(value), "value": value})
    known: Json = {"policy": past.policy, "blocks": list(lines)}
    found = codec.content_hash(known)
    return found, {**lines, found: _line({"past": found, "value": known})}


@dataclass(frozen=True, slots=True)
class Hashes:
    """Hashes of what a cycle's line only names: its profiles and pasts, in their order."""

    profiles: tuple[str, ...]
    pasts: tuple[str, ...] = ()


def cycle_line(cycle: Cycle, hashes: Hashes, *, writer: str, checkpoint: bool) -> str:
    """Return the line of a cycle whose profiles and pasts have these hashes."""
    return _line(
        {
            "cycle": round(cycle.observed.now_s, 3),  # for a person with grep; `observed` has it in full
            "writer": writer,
            "observed": codec.encode(cycle.observed),
            "policies": codec.encode(cycle.policies),
            "profiles": list(hashes.profiles),
            "pasts": list(hashes.pasts),
            "settings": codec.encode(cycle.settings),
            "decision": codec.encode(cycle.decision.policies),
            "memory": codec.encode(cycle.memory) if checkpoint else None,
            "digest": digest(cycle.decision.memory),
        }
    )


def digest(memory: plan.Memory) -> Json:
    """Return a memory with each long list, and what is believed of coming load, replaced by its hash."""
    return _abridged(codec.encode(memory.policies))


def _abridged(value: Json, depth: int = 0) -> Json:
    if isinstance(value, dict) and value.get(codec.TAG) == TRACKER:
        return f"{TRACKER}, hash {codec.content_hash(value)}"
    if isinstance(value, dict):
        return {name: _abridged(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list) and depth and len(value) > DIGEST_ITEMS:
        return f"{len(value)} items, hash {codec.content_hash(value)}"
    return [_abridged(item, depth + 1) for item in value] if isinstance(value, list) else value


def read(lines: Iterable[str]) -> Iterator[Recorded | Torn]:
    """Yield each recorded cycle and each torn line, in order; `lines` keep their line ends.

    Raises:
        Unreadable: A line is not one of ours, or names a profile that came in no line before it.
    """
    reader = _Reader()
    torn: int | None = None
    number, text = 0, ""
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        line = _parsed(text)
        if torn is not None:
            if line is None or "record" not in line:
                raise _not_json(torn)
            yield Torn(torn)
        torn = number if line is None else None
        if line is not None and (cycle := reader.take(line, number)) is not None:
            yield cycle
        elif number == 1 and not text.lstrip().startswith("{"):
            raise _foreign()
    if torn is not None and (torn < number or text.endswith("\n")):
        raise _not_json(torn)
    if torn is not None:
        yield Torn(torn)


@dataclass(slots=True)
class _Reader:
    """What the lines so far have told: who began to write, and the profiles by hash."""

    versions: dict[str, str] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)
    blocks: dict[str, Block] = field(default_factory=dict)
    pasts: dict[str, Past] = field(default_factory=dict)

    def take(self, line: dict[str, Json], number: int) -> Recorded | None:
        """Return the cycle of a line; None where the line only tells what later lines need."""
        try:
            if "record" in line:
                self._start(line)
            elif not self.versions:
                raise _foreign()
            elif "profile" in line:
                self.profiles[str(line["profile"])] = codec.decode(Profile, _whole(line, "profile"))
            elif "block" in line:
                self.blocks[str(line["block"])] = codec.decode(Block, _whole(line, "block"))
            elif "past" in line:
                self.pasts[str(line["past"])] = self._past(_whole(line, "past"))
            else:
                return self._cycle(line, number)
        except KeyError as missing:
            raise Unreadable(
                f"line {number}: {missing} is missing; the line was changed after it was written"
            ) from None
        except Unreadable as problem:
            raise Unreadable(f"line {number}: {problem}") from problem
        return None

    def _start(self, line: Mapping[str, Json]) -> None:
        writer, version = str(line["writer"]), str(line["version"])
        if line["record"] != FORMAT:
            raise Unreadable(f"format {line['record']!r}, this Capstan reads {FORMAT}; verify with capstan {version!r}")
        self.versions[writer] = version

    def _cycle(self, line: Mapping[str, Json], number: int) -> Recorded:
        writer, memory = str(line["writer"]), line["memory"]
        if writer not in self.versions:
            raise Unreadable(f"no start line of writer {writer!r} before it; the file's beginning is missing")
        return Recorded(
            line=number,
            writer=writer,
            version=self.versions[writer],
            observed=codec.decode(fleet.Observed, line["observed"]),
            policies=codec.decode_all(Policy, line["policies"]),
            profiles=tuple(_known(self.profiles, found, "profile") for found in _list(line["profiles"], "profiles")),
            pasts=tuple(_known(self.pasts, found, "past") for found in _list(line["pasts"], "pasts")),
            settings=codec.decode(decide.Settings, line["settings"]),
            decided=codec.decode_all(plan.PolicyDecision, line["decision"]),
            memory=None if memory is None else codec.decode(plan.Memory, memory),
            digest=line["digest"],
        )

    def _past(self, value: Json) -> Past:
        if not isinstance(value, dict):
            raise Unreadable("the past is not an object; the line was changed")
        hashes = _list(value["blocks"], "blocks")
        blocks = tuple(_known(self.blocks, found, "block") for found in hashes)
        try:
            return Past(str(value["policy"]), blocks)
        except ValueError as problem:
            raise Unreadable(f"{problem}; the line was changed") from problem


def _known(known: Mapping[str, T], found: Json, kind: str) -> T:
    """Return what an earlier line told under a hash."""
    if (value := known.get(str(found))) is None:
        raise Unreadable(f"{kind} {found!r} came in no line before it; the file's beginning is missing")
    return value


def _whole(line: Mapping[str, Json], kind: str) -> Json:
    """Return the value of a line that is named by its hash."""
    if codec.content_hash(line["value"]) != line[kind]:
        raise Unreadable(f"the {kind} is not the one that {line[kind]!r} is the hash of; it was changed")
    return line["value"]


def _list(raw: Json, name: str) -> list[Json]:
    if not isinstance(raw, list):
        raise Unreadable(f"{name} is not a list")
    return raw


def _line(value: dict[str, Json]) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n"


def _parsed(text: str) -> dict[str, Json] | None:
    """Return the JSON object of a line, or None."""
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _not_json(number: int) -> Unreadable:
    return Unreadable(f"line {number}: not a JSON object, and no writer stopped there; fetch the file again")


def _foreign() -> Unreadable:
    return Unreadable(
        f'this is no record of decisions: one begins with {{"record":"{FORMAT}"}}; '
        "give a whole file that `capstan operator --record FILE` wrote"
    )
