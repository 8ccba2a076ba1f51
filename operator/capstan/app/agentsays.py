"""What an agent says: its answer to the lease call, and `/metrics`; both of one sample, each GPU once.

Who calls it: `app.agent`. A GPU that several pods share stands under one of them (`lease.foremost`), so that every sum
over GPUs counts it once; `sharedBy` says how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping

from capstan.adapters import metrics as exposition
from capstan.agent import lease as leases
from capstan.agent.cycle import Shown
from capstan.agent.joining import Verified
from capstan.agent.lease import NOTHING, Lease
from capstan.agent.ports import Pod
from capstan.agent.sampling import Reading
from capstan.powercap.domains import ClassCaps

OLD_S = 5.0  # a sample older than this is not what the node draws
PER_GPU = (
    "capstan_agent_gpu_power_watts", "capstan_agent_gpu_sm_clock_megahertz", "capstan_agent_gpu_clock_cap_megahertz",
    "capstan_agent_gpu_power_limit_watts", "capstan_agent_gpu_cap_verified", "capstan_agent_gpu_power_disagreement",
)  # fmt: skip


def report(node: str, shown: Shown, held: Lease, now_s: float) -> dict[str, object]:
    """Return the answer to a lease call."""
    return {
        "node": node,
        "epoch": held.epoch,
        "sequence": held.sequence,
        "keptEpoch": shown.kept[0],
        "keptSequence": shown.kept[1],
        "sampleSequence": shown.sequence,
        "ageSeconds": round(now_s - shown.sampled_s, 3) if shown.sequence else OLD_S + 1,
        "safe": leases.in_safe_setting(held, now_s),
        "caps": {name: watts for name, watts in _caps(held.caps) if watts is not None},
        "gpus": [_gpu(reading, shown, held) for reading in shown.gpus],
    }


def _caps(caps: ClassCaps) -> tuple[tuple[str, float | None], ...]:
    """Return caps under the names of the contract; a lease that holds a standby's tighter ones says so."""
    return (
        ("lowMegahertz", caps.low_mhz),
        ("highMegahertz", caps.high_mhz),
        ("powerLimitWatts", caps.power_limit_w),
    )


def _gpu(reading: Reading, shown: Shown, held: Lease) -> dict[str, object]:
    gpu = reading.gpu
    pods = shown.owners.get(gpu.uuid, ())
    pod = leases.foremost(held, pods)
    verified = shown.verified.get(gpu.uuid, Verified())
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "namespace": pod.namespace if pod else "",
        "pod": pod.name if pod else "",
        "sharedBy": len(pods),
        "powerWatts": gpu.power_w,
        "powerDisagrees": reading.disagrees,
        "smClockMegahertz": gpu.sm_clock_mhz,
        "enforcedLimitWatts": gpu.limit_w,
        "limitVerified": verified.limit,
        "persistent": gpu.persistent,
        "clockCapMegahertz": shown.applied.get(gpu.uuid, NOTHING).clock_mhz,
        "clockVerified": verified.clock,
        "maxPowerWatts": gpu.max_limit_w,
        "minPowerWatts": gpu.min_limit_w,
    }


class Exposition:
    """The metrics of one agent."""

    def __init__(self, node: str) -> None:
        self.metrics = exposition.Metrics("agent")
        self._node = node
        self._booked_j: dict[str, float] = {}
        self._failures: Mapping[tuple[str, str], int] = {}

    def page(self, shown: Shown, held: Lease, now_s: float) -> bytes:
        """Return what a scrape reads."""
        put, node = self.metrics.set, self._node
        self.metrics.clear(*PER_GPU)
        for reading in shown.gpus:
            self._gpu(reading, shown, held)
        if shown.sequence:
            put("capstan_agent_sample_sequence", float(shown.sequence), node)
            put("capstan_agent_sample_age_seconds", now_s - shown.sampled_s, node)
        put("capstan_agent_lease_remaining_seconds", leases.remaining_s(held, now_s), node)
        put("capstan_agent_safe_setting", float(leases.in_safe_setting(held, now_s)), node)
        self._failed(shown.failures)
        return self.metrics.exposition()

    def _gpu(self, reading: Reading, shown: Shown, held: Lease) -> None:
        gpu, index = reading.gpu, str(reading.gpu.index)
        pod = leases.foremost(held, shown.owners.get(gpu.uuid, ())) or Pod("", "")
        self._put("capstan_agent_gpu_power_watts", gpu.power_w, index, pod.namespace, pod.name)
        self._put("capstan_agent_gpu_sm_clock_megahertz", gpu.sm_clock_mhz, index)
        self._put("capstan_agent_gpu_power_limit_watts", gpu.limit_w, index)
        self._put("capstan_agent_gpu_clock_cap_megahertz", shown.applied.get(gpu.uuid, NOTHING).clock_mhz, index)
        self._put("capstan_agent_gpu_power_disagreement", reading.disagrees, index)
        verified = shown.verified.get(gpu.uuid, Verified())
        self._put("capstan_agent_gpu_cap_verified", verified.clock, index, "clock")
        self._put("capstan_agent_gpu_cap_verified", verified.limit, index, "limit")
        if reading.booked_j is not None:
            grown_j = max(reading.booked_j - self._booked_j.get(gpu.uuid, 0.0), 0.0)
            self._booked_j[gpu.uuid] = reading.booked_j
            self.metrics.add("capstan_agent_energy_joules_total", grown_j, self._node, index)

    def _failed(self, failures: Mapping[tuple[str, str], int]) -> None:
        """Count the calls to the setter that failed since the last page."""
        for (call, code), count in failures.items():
            new = count - self._failures.get((call, code), 0)
            self.metrics.add("capstan_agent_actuation_failures_total", new, self._node, call, code)
        self._failures = failures

    def _put(self, name: str, value: float | None, *labels: str) -> None:
        """Set a gauge of one GPU; what is not known is absent."""
        if value is not None:
            self.metrics.set(name, float(value), self._node, *labels)
