"""The answer to a lease call and `/metrics`: each GPU once, what is not known is absent."""

from __future__ import annotations

import dataclasses
import json

from capstan.agent.cycle import Shown
from capstan.agent.joining import Verified
from capstan.agent.lease import Granted, Lease, Wanted, granted
from capstan.agent.ports import Pod
from capstan.agent.sampling import Reading
from capstan.app.agentsays import Exposition, report
from capstan.app.power.agents import report as as_power_reads_it
from capstan.model.gpu import GpuSample
from capstan.powercap.domains import ClassCaps, SafeSetting

BATCH, CHAT = Pod("llm", "batch-1"), Pod("llm", "chat-1")
HELD = granted(Lease(), Granted(3, 7, ClassCaps(1560, 1830), frozenset({CHAT}), SafeSetting(1110, 400)))


def shown(*, booked_j: float = 50.0) -> Shown:
    """A shared board whose cap is in force, and one that cannot be read."""
    busy = GpuSample(0, "GPU-a", 431.5, 1e6, 1560, 450, 200, 700)
    lost = GpuSample(1, "GPU-b", None, None, None, None, 200, 700)
    return Shown(
        sequence=5,
        sampled_s=100.0,
        gpus=(Reading(busy, disagrees=False, booked_j=booked_j), Reading(lost)),
        owners={"GPU-a": (BATCH, CHAT)},
        applied={"GPU-a": Wanted(1560, 450), "GPU-b": Wanted(1560, 450)},
        verified={"GPU-a": Verified(clock=True, limit=True), "GPU-b": Verified()},
    )


def test_a_report_says_per_gpu_what_is_verified() -> None:
    said = report("gpu-0", shown(), HELD, 100.25)
    json.dumps(said, allow_nan=False)
    gpus = said["gpus"]
    assert isinstance(gpus, list)
    first, second = gpus
    assert (first["clockVerified"], first["limitVerified"], first["enforcedLimitWatts"]) == (True, True, 450)
    assert (second["clockVerified"], second["limitVerified"], second["enforcedLimitWatts"]) == (None, None, None)
    assert (first["namespace"], first["pod"], first["sharedBy"]) == ("llm", "chat-1", 2), "under its High pod"
    assert (second["pod"], second["sharedBy"]) == ("", 0)
    assert (said["epoch"], said["sequence"], said["sampleSequence"], said["ageSeconds"]) == (3, 7, 5, 0.25)


def test_power_counts_each_board_once_and_the_unreadable_one_at_its_maximum() -> None:
    """431.5 W of the shared board, 700 W for the one that nobody can read."""
    read = as_power_reads_it(report("gpu-0", shown(), HELD, 100.0))
    assert read.gpus_w == 431.5 + 700
    assert read.caps == ClassCaps(1560, 1830), "a standby tightens from what a node holds, not from what was written"
    assert as_power_reads_it(report("gpu-0", shown(), Lease(), 100.0)).caps == ClassCaps()


def test_before_the_first_sample_its_age_is_too_old_to_use() -> None:
    assert report("gpu-0", Shown(), Lease(), 0.1)["ageSeconds"] == 6.0


def test_metrics_show_a_shared_board_once_and_leave_out_what_is_not_known() -> None:
    metrics = Exposition("gpu-0")
    page = metrics.page(shown(), HELD, 100.25).decode()
    watts = [line for line in page.splitlines() if line.startswith("capstan_agent_gpu_power_watts{")]
    assert watts == ['capstan_agent_gpu_power_watts{gpu="0",namespace="llm",node="gpu-0",pod="chat-1"} 431.5']
    assert 'capstan_agent_gpu_cap_verified{gpu="0",kind="limit",node="gpu-0"} 1.0' in page
    assert 'capstan_agent_gpu_cap_verified{gpu="1"' not in page
    assert 'capstan_agent_gpu_power_disagreement{gpu="0",node="gpu-0"} 0.0' in page
    assert 'capstan_agent_gpu_power_disagreement{gpu="1"' not in page
    assert 'capstan_agent_sample_age_seconds{node="gpu-0"} 0.25' in page
    assert 'capstan_agent_sample_sequence{node="gpu-0"} 5.0' in page


def test_before_the_first_sample_there_is_none_to_number_or_to_age() -> None:
    page = Exposition("gpu-0").page(Shown(), Lease(), 1.0).decode()
    assert "capstan_agent_sample_sequence{" not in page
    assert "capstan_agent_sample_age_seconds{" not in page
    assert 'capstan_agent_lease_remaining_seconds{node="gpu-0"} 0.0' in page


def test_joules_are_counted_over_scrapes_and_never_twice() -> None:
    metrics = Exposition("gpu-0")
    for booked_j in (50.0, 50.0, 80.0):
        page = metrics.page(shown(booked_j=booked_j), HELD, 100.0).decode()
    assert 'capstan_agent_energy_joules_total{gpu="0",node="gpu-0"} 80.0' in page
    assert 'capstan_agent_energy_joules_total{gpu="1"' not in page


def test_calls_that_failed_are_counted_by_call_and_code_and_never_twice() -> None:
    """Three scrapes: one refusal, the same one again, and two more beside a silent setter."""
    metrics = Exposition("gpu-0")
    pages = [
        metrics.page(dataclasses.replace(shown(), failures=failures), HELD, 100.0).decode()
        for failures in (
            {("clock", "NoPermission"): 1},
            {("clock", "NoPermission"): 1},
            {("clock", "NoPermission"): 3, ("safe", "SetterSilent"): 1},
        )
    ]
    name = 'capstan_agent_actuation_failures_total{call="%s",code="%s",node="gpu-0"} %.1f'
    assert name % ("clock", "NoPermission", 1) in pages[1]
    assert name % ("clock", "NoPermission", 3) in pages[2]
    assert name % ("safe", "SetterSilent", 1) in pages[2]
    assert "actuation_failures_total{" not in Exposition("gpu-0").page(shown(), HELD, 100.0).decode()
