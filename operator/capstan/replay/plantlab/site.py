"""What lies between controllers and boards: samples that come late or not at all, agents, commands that take time.

Who calls it: `play`; the controllers read `Heard` and give orders. Must not know: budgets, strategies.

A command reaches its agent within the same second unless the channel is down. The agent's call to the driver takes its
time and may fail; it tries again a second later. The enforced limit is read back with the sample.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from capstan.api import plant
from capstan.replay.plantlab import draws
from capstan.replay.plantlab.layout import Floats
from capstan.replay.plantlab.world import World

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

MIDDLE_S = 0.5  # a sample is the mean of a second (facts/polca.md 3.1), so this old when it is new
P99_SIGMAS = NormalDist().inv_cdf(0.99)


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of each server now.

    Attributes:
        watts: DC watts of its boards as their sensors say.
        age_s: Of that sample.
        limit_w: The largest board limit in force, read back.
        sequence: The newest message that its agent had obeyed by then.
        new: Whether the sample came in this second.
    """

    watts: Floats
    age_s: Floats
    limit_w: Floats
    sequence: Ints
    new: Flags


class Site:
    """Agents of all servers, and both ways of their channel."""

    def __init__(self, world: World, faults: plant.Faults, *, seed: int) -> None:
        count = len(world.servers)
        self._world, self._faults = world, faults
        self._spec = world.scene.spec.actuation
        self._rng = draws.stream(seed, draws.CHANNEL)
        draw, gpus = world.scene.profile.draw, world.scene.gpus
        # Before the run everybody was heard, idle.
        self._watts, self._limit_w = np.full(count, gpus * draw.loaded_idle_w), np.full(count, draw.limit_w)
        self._taken_s = np.full(count, -MIDDLE_S)
        self._told = np.zeros(count, dtype=np.int64)
        self._pipe = deque([(self._watts, self._limit_w, self._told)] * faults.lag_seconds, faults.lag_seconds + 1)
        self._wanted = np.tile([1.0, draw.limit_w], (count, 1))  # clock ratio, board limit
        self._sent = self._wanted.copy()
        self.sequence = np.zeros(count, dtype=np.int64)
        self.called_s = np.zeros(count)

    def hear(self) -> Heard:
        """Take this second's samples, and return what the controller knows."""
        world, now_s = self._world, self._world.now_s
        self._pipe.append(
            (world.servers["read_w"].copy(), world.boards["limit_w"].max(axis=1).copy(), self.sequence.copy())
        )
        count = len(world.servers)
        came = self._rng.random(count) >= self._faults.lost_percent / 100
        came &= not self._dark(now_s)
        watts, limit_w, sequence = self._pipe[0]
        self._watts = np.where(came, watts, self._watts)
        self._limit_w = np.where(came, limit_w, self._limit_w)
        self._told = np.where(came, sequence, self._told)
        self._taken_s = np.where(came, now_s - self._faults.lag_seconds - MIDDLE_S, self._taken_s)
        return Heard(self._watts, now_s - self._taken_s, self._limit_w, self._told, came)

    def reaches(self) -> bool:
        """Return whether commands reach the agents in this second."""
        blackout = self._faults.blackout
        return blackout is None or not blackout.commands_too or not self._dark(self._world.now_s)

    def want(self, cap_ratio: Floats, limit_w: Floats) -> None:
        """Let every agent want this clock lock and this limit from now on."""
        self._wanted = np.column_stack((cap_ratio, limit_w))

    def preset(self, limit_w: Floats) -> None:
        """Put limits in force before the run begins."""
        self._world.boards["limit_w"] = limit_w[:, None]
        self._wanted[:, 1] = self._sent[:, 1] = limit_w

    def act(self) -> None:
        """Let the agents whose wish is not with their driver call it."""
        rows = np.flatnonzero((self._wanted != self._sent).any(axis=1))
        rows = rows[self._rng.random(len(rows)) >= self._spec.failure_percent / 100]
        due_s = self._world.now_s + self._latencies_s(len(rows))
        boards = self._world.boards
        for column, (value, when) in enumerate((("next_cap_ratio", "next_cap_s"), ("next_limit_w", "next_limit_s"))):
            moved = self._wanted[rows, column] != self._sent[rows, column]
            boards[value][rows[moved]] = self._wanted[rows[moved], column][:, None]
            boards[when][rows[moved]] = due_s[moved][:, None]
        self._sent[rows] = self._wanted[rows]

    def confirmed(self) -> bool:
        """Return whether every clock lock that is wanted shows in every board's clock; a stuck one never does."""
        boards = self._world.boards
        in_force = boards["cap_ratio"] <= self._wanted[:, :1] + 1e-9
        shows = (boards["stuck"] == 0) | (boards["x_ratio"] <= self._wanted[:, :1] + 1e-9)
        return bool((in_force & shows).all())

    def _latencies_s(self, count: int) -> Floats:
        spec = self._spec
        sigma = math.log(spec.p99_milliseconds / spec.median_milliseconds) / P99_SIGMAS
        drawn_ms = spec.median_milliseconds * np.exp(sigma * self._rng.standard_normal(count))
        return np.asarray(np.minimum(drawn_ms, spec.longest_milliseconds) / 1e3)

    def _dark(self, now_s: float) -> bool:
        blackout = self._faults.blackout
        return blackout is not None and blackout.at_seconds <= now_s < blackout.at_seconds + blackout.for_seconds
