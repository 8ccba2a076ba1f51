"""What Prometheus and the API server would have said of a service: `seen.ServiceSeen` over a world's columns.

Who calls it: `replay.engine` makes one `View` per service, notes every tick in it, and hands it to the system. Must
not know: the future, and the trace beyond what has arrived. Everything measured is `delay_s` late; the counts of pods
are not, because the API server knows them at once. Figures are made when they are asked for, and once.
"""

from __future__ import annotations

import numpy as np

from capstan.model.fleet import ClassDemand
from capstan.model.workload import Phase
from capstan.replay.measured import Measured
from capstan.replay.noted import Bools, Notes, Snapshot
from capstan.replay.pool import Pool
from capstan.replay.runs import Ints
from capstan.replay.seen import ReplicaSeen, Service, Want


class View:
    """One service as a system sees it at `now_s`. The engine moves it on with `note`."""

    def __init__(self, service: Service, pool: Pool, *, delay_s: float) -> None:
        self._service = service
        self._pool = pool
        self._delay_s = delay_s
        self._notes = Notes(service, pool)
        self._windows: dict[float, Measured] = {}
        self._counts = (0, 0, 0)
        self._outputs: dict[int, float] = {}

    # --- what the engine does ----------------------------------------------------------------------

    def note(self, now_s: float, *, energy_j: float, counts: tuple[int, int, int]) -> None:
        """Take note of a tick, and of every engine's queues."""
        self._windows.clear()
        self._counts = counts
        self._notes.note(now_s, energy_j=energy_j)

    # --- what a system asks ------------------------------------------------------------------------

    @property
    def policy(self) -> str:
        """Key of the policy."""
        return self._service.policy.key

    @property
    def tp(self) -> int:
        """Degree that was last asked for."""
        return self._pool.want.tp

    @property
    def desired(self) -> int:
        """Replicas that were last asked for."""
        return self._pool.want.replicas

    @property
    def ready(self) -> int:
        """Replicas that are Ready and not draining, now."""
        return self._counts[0]

    @property
    def starting(self) -> int:
        """Replicas asked for that are not Ready yet, now."""
        return self._counts[1]

    @property
    def draining(self) -> int:
        """Replicas that drain, now."""
        return self._counts[2]

    @property
    def class_count(self) -> int:
        """How many classes requests are taken for."""
        return self._service.edges.count

    @property
    def at_s(self) -> float:
        """The moment that everything measured is of."""
        return self._notes.last_s - self._delay_s

    def newest(self) -> Snapshot | None:
        """Return the newest snapshot that has arrived, None before the first."""
        return self._notes.newest(self.at_s)

    @property
    def replicas(self) -> tuple[ReplicaSeen, ...]:
        """Every replica that had a pod at the newest sample, oldest first."""
        snapshot = self.newest()
        if snapshot is None:
            return ()
        columns = (
            snapshot.replica, snapshot.tp, snapshot.ready, snapshot.draining, snapshot.running, snapshot.waiting,
            snapshot.kv_usage, snapshot.kv_tokens,
        )  # fmt: skip
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return tuple(
            ReplicaSeen(r, tp, bool(up), bool(down), on, off, kv, kt) for r, tp, up, down, on, off, kv, kt in rows
        )

    @property
    def waiting_unrouted(self) -> int:
        """Requests that waited before the pool because no replica was ready."""
        snapshot = self.newest()
        return 0 if snapshot is None else snapshot.unrouted

    def window(self, span_s: float) -> Measured:
        """Return what was measured over the last `span_s` seconds."""
        found = self._windows.get(span_s)
        if found is None:
            found = self._windows[span_s] = Measured(self._notes, self.at_s, span_s)
        return found

    def window_of(self, span_s: float, codes: Bools) -> Measured:
        """Return the same of the requests of some classes; `codes` has a flag per class."""
        return Measured(self._notes, self.at_s, span_s, codes)

    @property
    def pools(self) -> tuple[LaneView, ...]:
        """The class pools that were asked for last."""
        names = dict.fromkeys(want.pool for want in self._pool.wants)
        return tuple(LaneView(self, self._pool, name) for name in names)

    def classes(self, span_s: float) -> tuple[ClassDemand, ...]:
        """Return the demand per class over the last `span_s` seconds; lengths of answers as of the newest that ended.

        A class of which no answer has ended yet is taken for as long as all that have.
        """
        window = self.window(span_s)
        known = self._notes.codes
        if known is None or window.span_s <= 0:
            return ()
        first, last = self._notes.arrived(window.start_s, window.end_s)
        codes, prompts = known[first:last], self._service.requests.prompt_tokens[first:last].astype(np.float64)
        count = np.bincount(codes, minlength=self._service.edges.count)
        total = np.bincount(codes, prompts, minlength=len(count))
        squares = np.bincount(codes, prompts**2, minlength=len(count))
        self._learn_outputs(window.ids)
        usual = window.output_tokens_mean or (
            sum(self._outputs.values()) / len(self._outputs) if self._outputs else None
        )
        if usual is None:
            return ()
        found = []
        for code in np.flatnonzero(count).tolist():
            mean = total[code] / count[code]
            spread = max(float(squares[code] / count[code] / mean**2 - 1), 0.0)
            output = self._outputs.get(code, usual)
            found.append(ClassDemand(code, float(count[code] / window.span_s), float(mean), output, spread))
        return tuple(found)

    def _learn_outputs(self, ids: Ints) -> None:
        """Take note of how long the answers per class were that ended lately."""
        known = self._notes.codes
        if known is None or not len(ids):
            return
        codes, outputs = known[ids], self._service.requests.output_tokens[ids]
        count = np.bincount(codes)
        for code, tokens in enumerate(np.bincount(codes, outputs).tolist()):
            if count[code]:
                self._outputs[code] = tokens / int(count[code])


class LaneView:
    """`seen.PoolSeen` over a view."""

    def __init__(self, view: View, pool: Pool, name: str) -> None:
        self.pool = name
        self._view = view
        self._pool = pool

    @property
    def phase(self) -> Phase:
        """What it plays of each request."""
        return self._want.phase if self._want else Phase.BOTH

    @property
    def _want(self) -> Want | None:
        return next((want for want in self._pool.wants if want.pool == self.pool), None)

    @property
    def degrees(self) -> tuple[tuple[int, int, int, int, int], ...]:
        """(tp, asked for, ready, starting or pending, draining) of each degree."""
        wanted = {want.tp: want.replicas for want in self._pool.wants if want.pool == self.pool}
        held = {pod.tp for pod in self._pool.pods if pod.lane == self.pool}
        return tuple((tp, wanted.get(tp, 0), *self._pool.counts((self.pool, tp))) for tp in sorted({*wanted, *held}))

    def pending(self, tp: int) -> int:
        """Replicas of a degree that no node has room for."""
        return self._pool.pending((self.pool, tp))

    @property
    def queues(self) -> tuple[int, int]:
        """Requests that run and that wait in its replicas at the newest sample."""
        snapshot = self._view.newest()
        if snapshot is None:
            return 0, 0
        own = np.array([lane == self.pool for lane in snapshot.lane], dtype=bool)
        return int(snapshot.running[own].sum()), int(snapshot.waiting[own].sum())

    @property
    def energy_j(self) -> float:
        """Joules of its replicas' slots, as of now: differences mean something only while no replica comes or goes."""
        slots = [pod.slot for pod in self._pool.pods if pod.lane == self.pool]
        return float(self._pool.world.energy_j()[slots].sum())

    def window(self, span_s: float) -> Measured:
        """Return what was measured of its classes' requests."""
        own = self._want
        flags = np.zeros(self._view.class_count, dtype=bool)
        flags[list(own.classes if own else ()) or slice(None)] = True
        return self._view.window_of(span_s, flags)
