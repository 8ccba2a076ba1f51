"""The lines of a record of decisions: what a writer puts into each, and how a reader gets the cycles back.

Who calls it: `serving.recorder` (`start_line`, `profile_line`, `cycle_line`) and `replay.verify` (`read`). A file
stands alone: it begins with a start line, and so does every process that appends to it. A profile has one line, before
the first cycle that names its hash. The memory after a cycle is the memory before the next one of the same writer, so
it is written where that is not so, and now and then (a checkpoint); every cycle has the digest of its memory after,
which is small and still names the field.
Must not know: files, who reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from capstan import decide
from capstan.journal import codec
from capstan.journal.codec import Json, Unreadable
from capstan.model import fleet, plan
from capstan.model.policy import Policy
from capstan.model.profile import Profile

FORMAT = "capstan-decisions/1"
DIGEST_ITEMS = 8  # a list longer than this is its hash in a digest: the look-back of rates, up to 360 pairs


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle saw, remembered and decided."""

    observed: fleet.Observed
    policies: tuple[Policy, ...]
    profiles: tuple[Profile, ...]
    settings: decide.Settings
    decision: plan.Decision
    memory: plan.Memory


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


def cycle_line(cycle: Cycle, hashes: Iterable[str], *, writer: str, checkpoint: bool) -> str:
    """Return the line of a cycle whose profiles have these hashes."""
    return _line(
        {
            "cycle": round(cycle.observed.now_s, 3),  # for a person with grep; `observed` has it in full
            "writer": writer,
            "observed": codec.encode(cycle.observed),
            "policies": codec.encode(cycle.policies),
            "profiles": list(hashes),
            "settings": codec.encode(cycle.settings),
            "decision": codec.encode(cycle.decision.policies),
            "memory": codec.encode(cycle.memory) if checkpoint else None,
            "digest": digest(cycle.decision.memory),
        }
    )


def digest(memory: plan.Memory) -> Json:
    """Return a memory with each long list replaced by its hash."""
    return _abridged(codec.encode(memory.policies))


def _abridged(value: Json, depth: int = 0) -> Json:
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

    def take(self, line: dict[str, Json], number: int) -> Recorded | None:
        """Return the cycle of a line; None where the line only tells what later lines need."""
        try:
            if "record" in line:
                self._start(line)
            elif not self.versions:
                raise _foreign()
            elif "profile" in line:
                self.profiles[str(line["profile"])] = _profile(line)
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
            profiles=tuple(self._profile(found) for found in _list(line["profiles"])),
            settings=codec.decode(decide.Settings, line["settings"]),
            decided=codec.decode_all(plan.PolicyDecision, line["decision"]),
            memory=None if memory is None else codec.decode(plan.Memory, memory),
            digest=line["digest"],
        )

    def _profile(self, found: Json) -> Profile:
        if (profile := self.profiles.get(str(found))) is None:
            raise Unreadable(f"profile {found!r} came in no line before it; the file's beginning is missing")
        return profile


def _profile(line: Mapping[str, Json]) -> Profile:
    if codec.content_hash(line["value"]) != line["profile"]:
        raise Unreadable(f"the profile is not the one that {line['profile']!r} is the hash of; it was changed")
    return codec.decode(Profile, line["value"])


def _list(raw: Json) -> list[Json]:
    if not isinstance(raw, list):
        raise Unreadable("profiles is not a list")
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
