"""Which columns of a file are the time and the two lengths: the known traces by their headers, others by being told.

Who calls it: `traces.read`. Must not know: how a cell is parsed.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from capstan.replay.traces.errors import TraceError


class Clock(enum.Enum):
    """How a trace writes its times."""

    ISO = "ISO 8601 times"
    SECONDS = "seconds"
    EITHER = "seconds or ISO 8601 times"


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of one kind of trace. `failures`: a row without output is a request that failed, and is left out."""

    name: str
    time: str
    prompt: str
    output: str
    clock: Clock
    failures: bool = False

    @property
    def names(self) -> tuple[str, str, str]:
        """The three columns."""
        return self.time, self.prompt, self.output


@dataclass(frozen=True, slots=True)
class Places:
    """Where the three columns of a layout stand in a header of `width` columns."""

    layout: Layout
    time: int
    prompt: int
    output: int
    width: int


AZURE = Layout("Azure LLM inference trace", "TIMESTAMP", "ContextTokens", "GeneratedTokens", Clock.ISO)
"""github.com/Azure/AzurePublicDataset, LLM inference traces of 2023 and 2024."""

BURSTGPT = Layout("BurstGPT trace", "Timestamp", "Request tokens", "Response tokens", Clock.SECONDS, failures=True)
"""github.com/HPMLL/BurstGPT: its README says that a request with no response tokens failed."""

MOONCAKE = Layout("Mooncake trace", "timestamp", "input_length", "output_length", Clock.SECONDS)
"""github.com/kvcache-ai/Mooncake, JSON lines; its timestamps are milliseconds."""

KNOWN = (AZURE, BURSTGPT)


def custom(spec: str) -> Layout:
    """Return the layout that `time=NAME,prompt=NAME,output=NAME` describes.

    Raises:
        ValueError: A part is missing, doubled or unknown.
    """
    pairs = [part.partition("=") for part in spec.split(",")]
    found = {key.strip(): name.strip() for key, _, name in pairs}
    if len(pairs) != len(found) or set(found) != {"time", "prompt", "output"} or not all(found.values()):
        raise ValueError(f"--columns {spec[:200]}: write time=NAME,prompt=NAME,output=NAME, each of them once")
    return Layout("CSV trace", found["time"], found["prompt"], found["output"], Clock.EITHER)


def places(path: Path, header: list[str], told: Layout | None) -> Places:
    """Return where the columns stand.

    Raises:
        TraceError: Neither the told nor any known columns are there; says what was found and what would do.
    """
    names = [name.strip() for name in header]
    candidates = KNOWN if told is None else (told,)
    nearest = min(candidates, key=lambda layout: sum(name not in names for name in layout.names))
    missing = [name for name in nearest.names if name not in names]
    if missing:
        found = ", ".join(names)[:200] or "an empty line"
        raise TraceError(path, 1, ", ".join(missing), f"missing; found {found}; {_would_do(told)}")
    time, prompt, output = (names.index(name) for name in nearest.names)
    return Places(nearest, time, prompt, output, len(names))


def _would_do(told: Layout | None) -> str:
    if told is not None:
        return f"{', '.join(told.names)} were asked for; correct the names or give another file"
    kinds = "; ".join(f"{layout.name}: {', '.join(layout.names)}" for layout in (*KNOWN, MOONCAKE))
    return f"what would do: {kinds} (JSON lines); any other columns: --columns time=NAME,prompt=NAME,output=NAME"
