"""A warm pool: idle watts are charged, requests never reach it, growth is served at once, the system sees nothing."""

from __future__ import annotations

import dataclasses
import math

import pytest

from capstan.model.classes import Edges
from capstan.model.policy import Pools
from capstan.model.power import idle_w
from capstan.replay import engine
from capstan.replay.experiments.warm import NAME, Warmed
from capstan.replay.runs import Run
from capstan.replay.seen import System, Want
from support import small
from support.small import KEY, TP4, Scripted

ONE, TWO = Want(KEY, 4, 1), Want(KEY, 4, 2)
AT_S = 40.0


def scripted(*steps: tuple[float, Want]) -> Scripted:
    return Scripted(dict(steps) or {0.0: ONE})


def played(system: System) -> Run:
    return engine.run(small.scenario(servers=4), system)


def ready_after(run: Run, t_s: float) -> int:
    """Replicas that are Ready at the first sample after a moment."""
    series = run.services[0].series
    return int(series.replicas_ready[series.t_s > t_s][0])


def test_a_warm_replica_costs_its_idle_watts_and_changes_nothing_else() -> None:
    """One replica of 4 GPUs that never gets a request: 4 x 115 W for as long as the run lasts."""
    cold, warm = played(scripted()), played(Warmed(scripted(), 1))
    extra_j = warm.services[0].energy.total_j - cold.services[0].energy.total_j
    assert extra_j == pytest.approx(4 * idle_w(TP4) * cold.duration_s, rel=1e-3)
    assert warm.services[0].energy.serving_j == pytest.approx(cold.services[0].energy.serving_j)
    assert (warm.services[0].outcomes.finish_s == cold.services[0].outcomes.finish_s).all()


def test_growth_is_served_at_once_by_a_warm_replica_and_after_the_start_by_a_cold_one() -> None:
    """Ready serving replicas 5 s after the plan grew: 2 with a warm pool, 1 for 30 s without."""
    script = ((0.0, ONE), (AT_S, TWO))
    cold, warm = played(scripted(*script)), played(Warmed(scripted(*script), 1))
    assert ready_after(cold, AT_S + 5) == 1
    assert ready_after(warm, AT_S + 5) == 2, "the warm one serves, its successor starts"
    assert ready_after(warm, AT_S + small.STARTUP_S + 15) == 3, "and stands by again"


def test_the_warm_pool_is_full_again_after_growth() -> None:
    system = Warmed(scripted((0.0, ONE), (AT_S, TWO)), 2)
    run = played(system)
    series = run.services[0].series
    assert int(series.replicas_desired[series.t_s > AT_S + 20][0]) == 4
    assert int(series.replicas_desired.max()) == 4, "never more than the plan and the pool"


def test_the_system_beneath_sees_none_of_it() -> None:
    inner = scripted()
    played(Warmed(inner, 2))
    for look in inner.looks:
        (service,) = look.services
        assert [pool.pool for pool in service.pools] == ["all"]
        assert (service.desired, service.ready, service.starting, service.draining) == (1, 1, 0, 0)


def test_it_is_named_after_the_system_and_its_replicas() -> None:
    warmed = Warmed(scripted(), 2)
    assert (warmed.name, warmed.period_s, warmed.caps_power) == ("scripted, 2 warm", 5.0, False)


def test_a_warm_pool_has_the_degree_that_most_gpus_have() -> None:
    service = small.scenario().services[0]
    begun = Warmed(Starting((Want(KEY, 4, 1, pool="s"), Want(KEY, 8, 2, pool="l"))), 3).start(service)
    assert isinstance(begun, tuple)
    assert (begun[0].pool, begun[0].tp, begun[0].replicas) == (NAME, 8, 3)
    assert [want.pool for want in begun] == [NAME, "s", "l"], "first, so that classes go to the others"


@dataclasses.dataclass
class Starting(Scripted):
    """A system that begins with these wants."""

    def __init__(self, wants: tuple[Want, ...]) -> None:
        super().__init__({})
        self.wants = wants

    def start(self, service: object) -> tuple[Want, ...]:  # type: ignore[override]  # more than a scripted one begins with
        return self.wants


def test_a_service_of_one_class_is_refused_because_its_warm_replicas_would_serve() -> None:
    service = small.scenario().services[0]
    pools = Pools(edges=Edges((), ()))
    one = dataclasses.replace(service, policy=dataclasses.replace(service.policy, pools=pools))
    with pytest.raises(ValueError, match="two classes"):
        Warmed(scripted(), 1).start(one)


@pytest.mark.parametrize("count", [0, -1])
def test_an_empty_warm_pool_is_none(count: int) -> None:
    with pytest.raises(ValueError, match="a replica at least"):
        Warmed(scripted(), count)


def test_no_request_is_lost_to_a_warm_pool() -> None:
    finish_s = played(Warmed(scripted((0.0, ONE), (AT_S, TWO), (60.0, ONE)), 1)).services[0].outcomes.finish_s
    assert not any(math.isnan(t_s) for t_s in finish_s.tolist())
