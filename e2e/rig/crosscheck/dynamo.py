"""NVIDIA's request-level replay (`python -m dynamo.replay`, offline, no planner) beside ours: CPU seconds, interleaved.

Loads are equal, work is not: its mocker follows KV blocks and every token's time and knows no power, clocks or joules;
say "on the same load". Settings and method: facts/replay-kernel.md section 3, "Dynamo 1.4.2".
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from capstan.replay.runs import Requests
from rig import usage
from rig.crosscheck.venvs import DYNAMO, NotAvailable

WORKERS = 6
ENGINE = {
    "speedup_ratio": 0.25,  # its mocker at a quarter of its speed: decode steps of 23 ms and more, nearest to ours
    "block_size": 16,
    "max_num_seqs": 256,
    "max_num_batched_tokens": 2048,
    "enable_prefix_caching": False,
}
HASH_BLOCK_TOKENS = 512  # tokens per hash id of a mooncake trace
PAIRS = 5
TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Replayed:
    """One run of theirs. CPU seconds of the whole process, start-up included; the rest is from its own report."""

    cpu_s: float
    completed: int
    itl_mean_s: float
    ttft_mean_s: float


@dataclass(frozen=True, slots=True)
class Compared:
    """Interleaved pairs on one load. `theirs_cpu_s` has their start-up of the same round subtracted."""

    requests: int
    theirs_cpu_s: tuple[float, ...]
    ours_cpu_s: tuple[float, ...]
    start_up_cpu_s: tuple[float, ...]
    last: Replayed

    @property
    def ratios(self) -> tuple[float, ...]:
        """Return theirs over ours, pair by pair; empty where ours was not run."""
        return tuple(t / o for t, o in zip(self.theirs_cpu_s, self.ours_cpu_s, strict=True)) if self.ours_cpu_s else ()

    def told(self) -> list[str]:
        """Return the comparison in lines."""
        lines = [
            f"dynamo.replay {DYNAMO.version}, {self.requests:,} requests, {WORKERS} workers, no planner: "
            f"{_rates(self.requests, self.theirs_cpu_s)} of CPU "
            f"({_spread(self.start_up_cpu_s, '.2f')} s of start-up subtracted); "
            f"its mean ITL {1e3 * self.last.itl_mean_s:.1f} ms, TTFT {1e3 * self.last.ttft_mean_s:.0f} ms"
        ]
        if self.ours_cpu_s:
            lines += [
                f"capstan's kernel, the same load: {_rates(self.requests, self.ours_cpu_s)} of CPU",
                f"ratio on the same load (not the same work): {_spread(self.ratios, '.0f')} times (goal 50), "
                f"{len(self.ratios)} interleaved pairs",
            ]
        return lines


def write_trace(requests: Requests, path: Path) -> None:
    """Write requests as mooncake JSONL: milliseconds, and no prefix in common (each block has a hash id of its own)."""
    fresh = itertools.count()
    rows = zip(
        requests.arrival_s.tolist(), requests.prompt_tokens.tolist(), requests.output_tokens.tolist(), strict=True
    )
    with path.open("w", encoding="utf-8") as file:
        for arrival_s, prompt, output in rows:
            blocks = [next(fresh) for _ in range(-(-prompt // HASH_BLOCK_TOKENS))]
            row = {"timestamp": round(1e3 * arrival_s), "input_length": prompt, "output_length": output}
            file.write(json.dumps({**row, "hash_ids": blocks}) + "\n")


def replay(python: Path, trace: Path) -> Replayed:
    """Run their replay of a trace file once.

    Raises:
        NotAvailable: It failed, or left requests unfinished; the message has its last line.
    """
    report, log = trace.with_suffix(".report.json"), trace.with_suffix(".log")
    argv = [
        *(str(python), "-m", "dynamo.replay", str(trace), "--replay-mode", "offline"),
        *("--num-workers", str(WORKERS), "--trace-block-size", str(HASH_BLOCK_TOKENS)),
        *("--extra-engine-args", json.dumps(ENGINE), "--report-json", str(report)),
    ]
    # It needs no tokenizer here, and shall not look for one.
    used = usage.run(argv, log, {"HF_HUB_OFFLINE": "1"})
    if used.code:
        raise NotAvailable(f"dynamo.replay ended with {used.code}: {usage.last_line(log)}")
    said: dict[str, float] = json.loads(report.read_text())
    if said["completed_requests"] != said["num_requests"]:
        raise NotAvailable(f"dynamo.replay finished {said['completed_requests']} of {said['num_requests']} requests")
    return Replayed(used.cpu_s, int(said["completed_requests"]), said["mean_itl_ms"] / 1e3, said["mean_ttft_ms"] / 1e3)


def compare(python: Path, requests: Requests, ours: Callable[[], float] | None, *, pairs: int = PAIRS) -> Compared:
    """Run theirs and ours by turns on one load, and return both; who begins alternates.

    Args:
        python: Interpreter of Dynamo's venv.
        requests: The load.
        ours: Replays the same load once and returns its CPU seconds; None: theirs alone.
        pairs: How many rounds.

    Raises:
        NotAvailable: Their replay failed.
    """
    theirs, mine, start_up = [], [], []
    with tempfile.TemporaryDirectory(prefix="capstan-dynamo-") as folder:
        whole, one = Path(folder) / "load.jsonl", Path(folder) / "one.jsonl"
        write_trace(requests, whole)
        write_trace(Requests(requests.arrival_s[:1], requests.prompt_tokens[:1], requests.output_tokens[:1]), one)
        for turn in range(pairs):
            if ours is not None and turn % 2:
                mine.append(ours())
            start_up.append(replay(python, one).cpu_s)
            last = replay(python, whole)
            if last.completed != len(requests):
                raise NotAvailable(f"dynamo.replay read {last.completed} of {len(requests)} requests")
            theirs.append(last.cpu_s - start_up[-1])
            if ours is not None and not turn % 2:
                mine.append(ours())
    return Compared(len(requests), tuple(theirs), tuple(mine), tuple(start_up), last)


def _rates(requests: int, cpu_s: Sequence[float]) -> str:
    return f"{_spread([requests / s for s in cpu_s], ',.0f')} requests/s"


def _spread(values: Sequence[float], form: str) -> str:
    """Return the median, and the range behind it where there are several."""
    median = format(statistics.median(values), form)
    return median if len(values) == 1 else f"{median} ({min(values):{form}} to {max(values):{form}})"
