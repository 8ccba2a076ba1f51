"""All that is drawn by chance, from one seed: boards, load, ripple. Both strategies meet the same.

Who calls it: `world`, `site`. Every use has a stream of its own, so that one more draw here moves nothing there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from capstan.api import plant
from capstan.replay import published, queueing
from capstan.replay.plantlab import layout, tables
from capstan.replay.plantlab.layout import Floats, Records
from capstan.replay.plantlab.scene import Scene

LOAD, BOARDS, RIPPLE, CHANNEL, CUT = range(5)
LENGTHS = published.CONVERSATION
SHIFT_S = 6.0  # a sample goes stale within that: a surge may come before and after a blackout is noticed


def stream(seed: int, use: int) -> np.random.Generator:
    """Return the numbers of one use."""
    return np.random.default_rng([seed, use])


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests a second of one server over time: a ramp, then flat, times whatever surges."""

    start_rps: float
    end_rps: float
    ramp_s: float
    surges: tuple[tuple[float, float, float], ...] = ()  # from, to, factor

    def of(self, at_s: Floats) -> Floats:
        """Return the rate at some times."""
        rate = self.start_rps + (self.end_rps - self.start_rps) * np.minimum(at_s / self.ramp_s, 1.0)
        for from_s, to_s, factor in self.surges:
            rate = np.where((at_s >= from_s) & (at_s < to_s), rate * factor, rate)
        return rate

    def most_rps(self, seconds: int) -> float:
        """Return the highest rate of a run."""
        return float(self.of(np.arange(0.0, seconds, 0.5)).max())


def hour(load: plant.Load, seed: int) -> Rate:
    """Return the rate that a scenario's load says; a seed moves all surges by up to `SHIFT_S`, against the faults."""
    later_s = SHIFT_S * float(stream(seed, CUT).random())
    surges = tuple(
        (later_s + s.at_seconds, later_s + s.at_seconds + s.for_seconds, float(s.factor)) for s in load.surges
    )
    return Rate(float(load.start_per_second), float(load.end_per_second), float(load.ramp_seconds), surges)


def flash(spec: plant.PowerStep, cut_s: float) -> Rate:
    """Return a rate that is full from shortly before a cut to the end."""
    before_rps = float(spec.before_per_second)
    full_s = cut_s - spec.full_before_milliseconds / 1e3
    end_s = float(spec.at_seconds + spec.for_seconds)
    return Rate(before_rps, before_rps, 1.0, ((full_s, end_s, float(spec.per_second) / before_rps),))


def boards(scene: Scene, faults: plant.Faults, seed: int) -> Records:
    """Return the boards [server, board] at full clock and their largest limit."""
    spec, rng = scene.spec.boards, stream(seed, BOARDS)
    shape = (len(scene.servers), scene.gpus)
    gains = 1.0 + rng.uniform(-1.0, 1.0, shape) * spec.gain_error_percent / 100
    shortest_ms, longest_ms = spec.loop_milliseconds
    loops_s = rng.uniform(shortest_ms / 1e3, longest_ms / 1e3, shape)
    stuck = rng.random(shape) < spec.stuck_per_mille / 1e3
    made = np.zeros(shape, dtype=layout.BOARD)
    low = faults.sensor_error_percent
    made["gain_ratio"] = 1.0 - low / 100 if low else gains
    made["attack_ratio"] = layout.SLICE_S / loops_s
    made["x_ratio"] = made["cap_ratio"] = 1.0
    made["limit_w"] = scene.profile.draw.limit_w
    made["stuck"] = stuck
    made["next_cap_s"] = made["next_limit_s"] = np.inf
    return made


def ripple(scene: Scene, seed: int) -> Floats:
    """Return how a replica's watts move from slice to slice, as shares."""
    deviation = scene.spec.boards.ripple_per_mille / 1e3
    return stream(seed, RIPPLE).normal(0.0, deviation, layout.RIPPLE_POINTS)


def requests(scene: Scene, rate: Rate, seed: int, seconds: int) -> tuple[Records, Sequence[int]]:
    """Return the requests of all servers, one after the other, and where each server's begin (and the last's end)."""
    rng = stream(seed, LOAD)
    prompts, _ = queueing.drawn(LENGTHS)
    work_s = tables.prompt_s(scene.profile, prompts.astype(np.float64))
    most = rate.most_rps(seconds)
    parts, ends = [], [0]
    for _ in scene.servers:
        count = int(rng.poisson(most * seconds))
        at_s = np.sort(rng.uniform(0.0, seconds, count))
        at_s = at_s[rng.random(count) < rate.of(at_s) / most]
        part = np.zeros(len(at_s), dtype=layout.REQUEST)
        part["at_s"] = at_s
        part["left_s"] = rng.choice(work_s, len(at_s))
        parts.append(part)
        ends.append(ends[-1] + len(at_s))
    return np.concatenate(parts), ends


def mean_tokens() -> tuple[float, float]:
    """Return mean prompt and output tokens of a request."""
    prompts, outputs = queueing.drawn(LENGTHS)
    return float(np.mean(prompts)), float(np.mean(outputs))
