"""Statements on tensor parallelism, judged at equal batches and full clock: watts, GPU time, latency, room.

Who calls it: `findings`. Must not know: how a finding is printed.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable

from capstan.replay.study import finding
from capstan.replay.study.finding import Reading, Statement
from capstan.replay.study.surface import Cell, Sheet
from capstan.replay.study.survey import View

NO_PAIR = "no batch exists at two tensor-parallel degrees"


def power(view: View) -> Reading:
    """Judge whether a replica of a lower tp draws less."""
    found = _ratios(view, lambda sheet, cell: cell.gpu_w * sheet.profile.tp)
    if not found:
        return finding.unanswered(NO_PAIR)
    return Reading(
        finding.most([ratio < 1 for ratio in found]),
        f"At equal batches and full clock a replica of half the GPUs draws {finding.spread(found)} of the watts: less "
        f"than all, but more than half, since each GPU is busier.",
        f"{finding.percent(statistics.median(found))} of the watts",
        (("power_median_ratio", statistics.median(found)),),
    )


def communication(view: View) -> Reading:
    """Judge whether a lower tp spends fewer GPU-seconds per token: what is lost to the group's links and its host."""
    found = _ratios(view, lambda sheet, cell: sheet.profile.tp / cell.arrival_rps)
    if not found:
        return finding.unanswered(NO_PAIR)
    return Reading(
        finding.most([ratio < 1 for ratio in found]),
        f"At equal batches and full clock a replica of half the GPUs takes {finding.spread(found)} of the GPU-seconds "
        "per token; what it spares is all-reduces, and host time during which all GPUs wait.",
        f"{finding.percent(statistics.median(found))} of the GPU-seconds",
        (("gpu_seconds_median_ratio", statistics.median(found)),),
    )


def latency(view: View) -> Reading:
    """Judge whether a lower tp is slower and has less room for keys and values per GPU."""
    found = _ratios(view, lambda _, cell: cell.tpot_s)
    if not found:
        return finding.unanswered(NO_PAIR)
    profiles = [sheet.profile for sheet in view.of(view.kinds[0])]
    room = [a.kv_tokens / b.kv_tokens for a, b in itertools.pairwise(profiles)]
    slower = all(ratio > 1 for ratio in found)
    per_gpu = ", ".join(f"tp {p.tp} {p.kv_tokens / p.tp:,.0f}" for p in profiles)
    return Reading(
        slower and all(ratio < 1 / 2 for ratio in room),
        f"At equal batches and full clock half the GPUs take {finding.spread(found)} of the time per token (p99); the "
        f"KV cache holds, in tokens per GPU: {per_gpu}.",
        f"TPOT {finding.percent(statistics.median(found))}",
        (("tpot_median_ratio", statistics.median(found)), ("kv_tokens_least_ratio", min(room))),
    )


def _ratios(view: View, figure: Callable[[Sheet, Cell], float]) -> list[float]:
    """Return a figure of each tp over that of the next larger one, at equal classes and batches and full clock."""
    return [
        figure(small, low[0]) / figure(large, high[0])
        for kind in view.kinds
        for small, large in itertools.pairwise(view.of(kind))
        for low, high in zip(small.batches, large.batches, strict=True)
        if low[0] is not None and high[0] is not None
    ]


STATEMENTS = (
    Statement("tp-power", "Lower TP draws less power", "direction [M]; numbers not found", power),
    Statement("tp-communication", "Lower TP communicates less", "direction [M]; numbers not found", communication),
    Statement(
        "tp-latency",
        "Lower TP has a higher latency and less room for the KV cache",
        "direction [M]; numbers not found",
        latency,
    ),
)
