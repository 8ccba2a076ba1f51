"""What a run writes down at every tick, in flat columns that grow: the series of services and of power domains.

Who calls it: `replay.engine`. Must not know: what the figures are used for.
"""

from __future__ import annotations

import array
from dataclasses import dataclass, field

import numpy as np

from capstan.replay.runs import DomainSeries, Floats, LaneSeries, Requests, ServiceSeries

_COLUMNS = 13


@dataclass(slots=True)
class ServiceLog:
    """One service; `energy_j` of a row is cumulative, and becomes mean watts."""

    rows: array.array[float] = field(default_factory=lambda: array.array("d"))
    reasons: list[str] = field(default_factory=list)

    def note(self, row: tuple[float, ...], reason: str) -> None:
        """Append one row: time, desired, ready, starting, draining, GPUs, tp, cap, joules, running … expected watts."""
        if len(row) != _COLUMNS:
            raise ValueError(f"a row has {_COLUMNS} columns")
        self.rows.extend(row)
        self.reasons.append(reason)

    def series(self, requests: Requests, *, end_s: float, late_j: float) -> ServiceSeries:
        """Return the columns; arrival rates are those since the sample before.

        The run ends at `end_s`, inside the last tick; `late_j` are the joules of that tick that came after it.
        """
        table = np.array(self.rows, dtype=np.float64).reshape(-1, _COLUMNS)
        table[-1, 0] = end_s
        table[-1, 8] -= late_j
        t_s = table[:, 0].copy()
        spans_s = np.diff(t_s, prepend=0.0)
        arrived = np.searchsorted(requests.arrival_s, t_s, "right")

        def whole(column: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
            return np.asarray(table[:, column].astype(np.int64))

        return ServiceSeries(
            t_s=t_s,
            arrival_rps=np.diff(arrived, prepend=0) / spans_s,
            replicas_desired=whole(1),
            replicas_ready=whole(2),
            replicas_starting=whole(3),
            replicas_draining=whole(4),
            gpus=whole(5),
            tp=whole(6),
            clock_cap_mhz=table[:, 7].copy(),
            gpus_w=np.diff(table[:, 8], prepend=0.0) / spans_s,
            running=whole(9),
            waiting=whole(10),
            kv_usage=table[:, 11].copy(),
            expected_w=table[:, 12].copy(),
            reason=np.array(self.reasons, dtype=np.str_),
        )


@dataclass(slots=True)
class LaneLog:
    """One class pool."""

    classes: tuple[int, ...]
    rows: array.array[float] = field(default_factory=lambda: array.array("d"))

    def note(self, t_s: float, tp: int, ready: int, cap_mhz: float | None) -> None:
        """Append one row."""
        self.rows.extend((t_s, float(tp), float(ready), np.nan if cap_mhz is None else cap_mhz))

    def series(self, pool: str) -> LaneSeries:
        """Return the columns."""
        table = np.frombuffer(self.rows, dtype=np.float64).reshape(-1, 4)
        tp, ready = table[:, 1].astype(np.int64), table[:, 2].astype(np.int64)
        return LaneSeries(pool, self.classes, table[:, 0].copy(), tp, ready, table[:, 3].copy())


@dataclass(slots=True)
class DomainLog:
    """One power domain."""

    domain: str
    servers: int
    rows: array.array[float] = field(default_factory=lambda: array.array("d"))
    levels: list[str] = field(default_factory=list)

    def note(self, t_s: float, draw_w: float, budget_w: float, cap_mhz: float, level: str) -> None:
        """Append one row."""
        self.rows.extend((t_s, draw_w, budget_w, cap_mhz))
        self.levels.append(level)

    def series(self) -> DomainSeries:
        """Return the columns."""
        table = np.frombuffer(self.rows, dtype=np.float64).reshape(-1, 4)
        columns: list[Floats] = [table[:, i].copy() for i in range(4)]
        levels = np.array(self.levels, dtype=np.str_)
        return DomainSeries(self.domain, columns[0], columns[1], columns[2], levels, columns[3], self.servers)
