"""A real Prometheus that has lived through an earlier cycle (promtool's blocks), read back by a restarted operator."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from capstan.adapters.prometheus.client import Prometheus, Source
from capstan.adapters.prometheus.past import SETTLED_S, Pasts
from capstan.model.past import Past
from capstan.serving import history
from capstan.serving.cluster import Snapshot
from capstan.serving.view import Index
from rig import binaries, past, process, prometheus
from support import builders
from support.rig import eventually
from support.serving import Stage, chat

STEP_S = 30.0
CYCLE_S = 600.0
CYCLES = 3
CHAT = history.ask(Index(Snapshot()).view(chat(), builders.policy()))


def arrivals() -> list[float]:
    """Return one cycle: a request a second in its first half, four a second in its second."""
    return [*(float(t) for t in range(300)), *(300 + i / 4 for i in range(1200))]


@pytest.fixture(scope="module")
def programs() -> dict[str, binaries.Binary]:
    try:
        return binaries.find(("prometheus", "promtool"), may_build=False)
    except binaries.NotAvailable as problem:
        pytest.skip(f"no real Prometheus: {problem}")


@pytest.fixture(scope="module")
def now_s() -> float:
    """The end of the last cycle, on a step: an hour ago, since nothing is scraped here."""
    return (time.time() // STEP_S) * STEP_S - 3600


@pytest.fixture(scope="module")
def url(programs: dict[str, binaries.Binary], now_s: float, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus with three cycles of two policies behind it."""
    supervisor = process.Supervisor(tmp_path_factory.mktemp("past"))
    before = past.repeated(arrivals(), start_s=now_s, cycle_s=CYCLE_S, times=CYCLES)
    engines = [
        past.Earlier("llm", "chat-tp4", "chat", before),
        past.Earlier("llm", "chat-tp4-canary-tp4", "chat", before),  # another policy's, and no pod of ours
        past.Earlier("other", "chat-tp4", "chat", before),
    ]
    lines = past.exposition(engines, since_s=now_s - CYCLES * CYCLE_S, until_s=now_s + 1, scrape_s=5)
    past.load(programs["promtool"].path, lines, prometheus.data_folder(supervisor.folder))
    found = prometheus.start(supervisor, programs["prometheus"].path, prometheus.Config())
    try:
        eventually(lambda: prometheus.ready(found), "Prometheus ready")
        yield found
    finally:
        supervisor.stop_all()


async def read(url: str, now_s: float) -> Past:
    """Be a fresh operator: read the past of the chat policy."""
    client = Prometheus(Source(url))
    pasts = Pasts(client, step_s=STEP_S, wall_s=lambda: now_s + SETTLED_S)
    try:
        pasts.follow([CHAT])
        await pasts.refresh()
        assert pasts.problem == ""
        found = pasts.past(CHAT)
        assert found is not None
        return found
    finally:
        await client.close()


async def test_the_cycles_come_back_step_by_step(url: str, now_s: float) -> None:
    """One request a second in the first ten minutes' half, four in the second: as they were, three times over."""
    samples = dict((await read(url, now_s)).samples())
    for back in range(1, CYCLES + 1):
        start_s = now_s - back * CYCLE_S
        assert samples[start_s + 150] == pytest.approx(1.0, rel=0.1)
        assert samples[start_s + 450] == pytest.approx(4.0, rel=0.1)
    total = sum(rate * STEP_S for rate in samples.values())
    assert total == pytest.approx(CYCLES * len(arrivals()), rel=0.05), "of our pods, and of nobody else's"


async def test_what_lies_before_the_first_scrape_is_not_known(url: str, now_s: float) -> None:
    times_s = [t_s for t_s, _ in (await read(url, now_s)).samples()]
    assert min(times_s) > now_s - CYCLES * CYCLE_S
    assert max(times_s) == now_s


async def test_a_restarted_operator_forgets_nothing(url: str, now_s: float) -> None:
    """Two processes, one after the other, hand their first cycles the same past."""
    handed = []
    for _ in range(2):
        stage = Stage()
        stage.history.pasts["llm/chat"] = await read(url, now_s)
        stage.apply(chat())
        await stage.tick()
        handed.append(stage.recorder.cycles[-1].pasts)
    assert handed[0] == handed[1] != ()
