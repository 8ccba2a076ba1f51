"""aiconfigurator-core's prefill and decode step by tp beside ours: a second opinion from measured kernel tables.

What theirs is: sums over a model's operations, each looked up in a table measured on that GPU with that engine version,
at stock clocks. It has no host or scheduler time, no energy, no chunked prefill; so its TTFT is a pure prefill step and
its ITL a pure decode step, and ours are taken without host overhead on the prefill side (`prefill_s`) and with it where
it belongs to our step (decode). It answers for what does not fit in memory too: `fits` says so.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from capstan.model import latency
from capstan.model.profile import Profile
from rig.crosscheck.venvs import NotAvailable

PROBE = Path(__file__).with_name("aiconfigurator_probe.py")
CLAIMED_RATIO = 0.15  # issue 4: at most this far apart where both claim validity, explained where not
MEASURED_RATIO = 0.8  # at least this share of a time rests on measured tables, else they do not claim it (our choice)
SYSTEM = "h100_sxm"
LLMS = {  # theirs (it carries these configs; others it would download) to ours
    "meta-llama/Meta-Llama-3.1-8B": "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Meta-Llama-3.1-70B": "meta-llama/Llama-3.1-70B-Instruct",
}
GPU_PRODUCTS = {  # their systems to the node label of ours
    "a100_sxm": "NVIDIA-A100-SXM4-80GB",
    "h100_sxm": "NVIDIA-H100-80GB-HBM3",
    "h200_sxm": "NVIDIA-H200",
    "b200_sxm": "NVIDIA-B200",
}
TPS = (1, 2, 4, 8)
SHAPES = tuple((b, p, o) for p, o in ((512, 128), (1024, 256), (4096, 512)) for b in (1, 2, 4, 8, 16, 32, 64))
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Row:
    """What they say of one degree and shape. `kv_tokens` is what fits beside the weights, 0 where these do not fit."""

    tp: int
    engine: str
    kv_tokens: int
    batch: int
    prompt_tokens: int
    output_tokens: int
    prefill_s: float
    decode_step_s: float
    prefill_measured_ratio: float
    decode_measured_ratio: float

    @property
    def context_tokens(self) -> float:
        """Context that the batch holds in the middle of its outputs, where a mean decode step lies."""
        return self.batch * (self.prompt_tokens + self.output_tokens / 2)

    @property
    def fits(self) -> bool:
        """Whether the batch fits in memory at its longest."""
        return self.batch * (self.prompt_tokens + self.output_tokens) <= self.kv_tokens


@dataclass(frozen=True, slots=True)
class Difference:
    """Ours beside theirs; a ratio is ours / theirs − 1."""

    profile: str
    theirs: Row
    prefill_s: float
    decode_step_s: float

    @property
    def prefill_ratio(self) -> float:
        """Ours over theirs, less 1."""
        return self.prefill_s / self.theirs.prefill_s - 1

    @property
    def decode_ratio(self) -> float:
        """Ours over theirs, less 1."""
        return self.decode_step_s / self.theirs.decode_step_s - 1

    @property
    def prefill_claimed(self) -> bool:
        """Whether they claim their prefill: the weights fit, and it rests on measured tables."""
        return self.theirs.kv_tokens > 0 and self.theirs.prefill_measured_ratio >= MEASURED_RATIO

    @property
    def decode_claimed(self) -> bool:
        """Whether they claim their decode step: the batch fits in memory, and it rests on measured tables."""
        return self.theirs.fits and self.theirs.decode_measured_ratio >= MEASURED_RATIO


def asked(
    python: Path, llm: str, *, system: str = SYSTEM, tps: Sequence[int] = TPS, shapes: Sequence[tuple[int, int, int]]
) -> tuple[Row, ...]:
    """Return their rows for an LLM (their name of it), by tp and shape.

    Args:
        python: Interpreter of their venv.
        llm: As they call it; a key of `LLMS`, or another of their support matrix.
        system: As they call it: `h100_sxm`, `a100_sxm`, `h200_sxm`, `b200_sxm` ...
        tps: Degrees.
        shapes: (batch, prompt tokens, output tokens).

    Raises:
        NotAvailable: They could not; the message has its last line.
    """
    question = json.dumps({"llm": llm, "system": system, "tps": list(tps), "shapes": [list(s) for s in shapes]})
    done = subprocess.run(
        [str(python), str(PROBE)], input=question, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise NotAvailable(f"aiconfigurator-core has no answer for {llm} on {system}: {last}")
    return tuple(Row(**row) for row in json.loads(done.stdout))


def beside(rows: Iterable[Row], profiles: Iterable[Profile], llm: str, system: str) -> tuple[Difference, ...]:
    """Return ours (at full clock) beside theirs, for the degrees that a profile speaks for on that GPU.

    Args:
        rows: What they said.
        profiles: Ours, of any model and GPU.
        llm: As we call it.
        system: As they call it; a key of `GPU_PRODUCTS`.
    """
    ours = {p.tp: p for p in profiles if p.covers(llm, GPU_PRODUCTS[system], p.tp)}
    return tuple(
        Difference(
            profile.name,
            row,
            latency.prefill_step_s(profile, row.prompt_tokens, 1.0),
            latency.decode_step_s(profile, row.batch, row.context_tokens, 1.0),
        )
        for row in rows
        if (profile := ours.get(row.tp)) is not None and row.batch <= profile.max_num_seqs
    )


def table(differences: Iterable[Difference]) -> list[str]:
    """Return a Markdown table, a line per degree and shape; `*` behind a difference: they do not claim theirs."""
    lines = [
        "| tp | batch | prompt/output | prefill, theirs → ours (ms) | difference | decode step (ms) | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {d.theirs.tp} | {d.theirs.batch} | {d.theirs.prompt_tokens}/{d.theirs.output_tokens} "
        f"| {_ms(d.theirs.prefill_s)} → {_ms(d.prefill_s)} | {d.prefill_ratio:+.0%}{_star(d.prefill_claimed)} "
        f"| {_ms(d.theirs.decode_step_s)} → {_ms(d.decode_step_s)} | {d.decode_ratio:+.0%}{_star(d.decode_claimed)} |"
        for d in differences
    ]
    return lines


def told(differences: Sequence[Difference]) -> list[str]:
    """Return one line per profile: how far apart we are where they claim validity, and how often within 15 %."""
    lines = []
    for name in dict.fromkeys(d.profile for d in differences):
        of = [d for d in differences if d.profile == name]
        prefill = {d.theirs.prompt_tokens: d.prefill_ratio for d in of if d.prefill_claimed}
        decode = [d.decode_ratio for d in of if d.decode_claimed]
        engine = of[0].theirs.engine
        lines.append(f"{name} against {engine}: prefill {_spread([*prefill.values()])}; decode step {_spread(decode)}")
    return lines


def _ms(time_s: float) -> str:
    return f"{1e3 * time_s:.1f}"


def _star(claimed: bool) -> str:
    return "" if claimed else " *"


def _spread(ratios: Sequence[float]) -> str:
    if not ratios:
        return "not claimed by them"
    within = sum(abs(r) <= CLAIMED_RATIO for r in ratios)
    return (
        f"{statistics.median(ratios):+.0%} ({min(ratios):+.0%} to {max(ratios):+.0%}), "
        f"{within} of {len(ratios)} within {CLAIMED_RATIO:.0%}"
    )
