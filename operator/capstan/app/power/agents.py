"""The agents behind `power.ports.Agents`: lease calls out, reports in; what cannot be believed is left out and told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from itertools import starmap

from capstan.adapters import agents, errors
from capstan.power import caps, ports
from capstan.powercap.domains import ClassCaps

BELIEVED_RATIO = 2.0  # of a board's largest limit: spikes and gain errors stay below 1.1 (facts/polca.md 1.1)
LARGEST_BOARD_W = 20_000.0  # of one GPU: far above any; what says more says another unit
NUMBERS = ("lowMegahertz", "highMegahertz", "powerLimitWatts")

_log = logging.getLogger(__name__)


class Agents:
    """Implements `power.ports.Agents`."""

    def __init__(self, calls: agents.AgentCalls) -> None:
        self._calls = calls
        self._said: dict[str, str] = {}

    async def renew(self, calls: tuple[ports.LeaseCall, ...]) -> Mapping[str, ports.AgentReport | ports.Outdated]:
        """Call all at once; who does not answer is absent."""
        answers = await asyncio.gather(*map(self._one, calls))
        return {answer.node: answer for answer in answers if answer is not None}

    async def _one(self, call: ports.LeaseCall) -> ports.AgentReport | ports.Outdated | None:
        body = {
            "epoch": call.epoch,
            "sequence": call.sequence,
            "leaseSeconds": call.lease_s,
            "caps": caps.caps_document(call.caps),
        }
        answer: ports.AgentReport | ports.Outdated | None = None
        try:
            answer = report(await self._calls.renew(call.address, body))
            if answer.node != call.node:
                answer = None
                raise errors.Malformed(f"agent {call.address} is not that of {call.node}")
        except errors.Conflict as newer:
            self._say(call.node, str(newer))
            return ports.Outdated(call.node)
        except errors.AdapterError as problem:
            self._say(call.node, str(problem))
            return None
        self._say(call.node, "; ".join(answer.problems))
        return answer

    def _say(self, node: str, problem: str) -> None:
        """Log a problem once, and its end."""
        if self._said.get(node, "") != problem:
            self._said[node] = problem
            _log.warning("node %s: %s", node, problem or "its agent answers again, without problems")


def report(answer: Mapping[str, object]) -> ports.AgentReport:
    """Read an agent's answer. Raises Malformed."""
    listed = answer.get("gpus")
    if not isinstance(listed, list) or not all(isinstance(gpu, dict) for gpu in listed):
        raise errors.Malformed("the answer has no list of gpus")
    problems: list[str] = []
    gpus = tuple(_gpu(gpu, problems) for gpu in listed)
    said = answer.get("problems")
    problems += [str(problem)[:200] for problem in said[:8]] if isinstance(said, list) else []
    return ports.AgentReport(
        node=str(answer.get("node", "")),
        epoch=int(agents.number(answer, "epoch")),
        sequence=int(agents.number(answer, "sequence")),
        sample_sequence=int(agents.number(answer, "sampleSequence")),
        age_s=agents.number(answer, "ageSeconds"),
        safe=answer.get("safe") is True,
        gpus=gpus,
        problems=tuple(problems),
        caps=_caps(answer.get("caps")),
        kept=_kept(answer),
    )


def _kept(answer: Mapping[str, object]) -> tuple[int, int] | None:
    """Return which NodeCap a node keeps; None from an agent that does not say. Raises Malformed."""
    if "keptEpoch" not in answer:
        return None
    return int(agents.number(answer, "keptEpoch")), int(agents.number(answer, "keptSequence"))


def _gpu(gpu: Mapping[str, object], problems: list[str]) -> ports.GpuReport:
    """Read one GPU; watts that cannot be are unreadable, and count at the largest limit. Raises Malformed."""
    index = int(agents.number(gpu, "index"))
    max_w, min_w = agents.number(gpu, "maxPowerWatts"), agents.number(gpu, "minPowerWatts")
    if not 0 < max_w <= LARGEST_BOARD_W or min_w > max_w:
        raise errors.Malformed(
            f"GPU {index}: limits from {min_w:.0f} to {max_w:.0f} W: what it can draw is not known, so the node counts "
            "as silent; look at the driver and the GPU's model there"
        )
    enforced = "enforcedLimitWatts" if "enforcedLimitWatts" in gpu else "powerLimitWatts"
    return ports.GpuReport(
        index=index,
        namespace=str(gpu.get("namespace") or ""),
        pod=str(gpu.get("pod") or ""),
        power_w=_watts(gpu, index, max_w, problems),
        max_power_w=max_w,
        min_power_w=min_w,
        clock_cap_mhz=_optional(gpu, "clockCapMegahertz"),
        clock_verified=_verified(gpu, "clockVerified"),
        limit_verified=_verified(gpu, "limitVerified"),
        enforced_limit_w=_optional(gpu, enforced),
        persistent=_verified(gpu, "persistent"),
    )


def _watts(gpu: Mapping[str, object], index: int, max_w: float, problems: list[str]) -> float | None:
    if gpu.get("powerWatts") is None:
        problems.append(f"GPU {index} cannot be read, and counts at {max_w:.0f} W")
        return None
    try:
        watts = agents.number(gpu, "powerWatts")
    except errors.Malformed:
        watts = -1.0
    if not 0 <= watts <= BELIEVED_RATIO * max_w:
        problems.append(f"GPU {index} says {str(gpu['powerWatts'])[:20]} W, and counts at {max_w:.0f} W")
        return None
    return watts


def _optional(gpu: Mapping[str, object], name: str) -> float | None:
    return None if gpu.get(name) is None else agents.number(gpu, name)


def _verified(gpu: Mapping[str, object], name: str) -> bool | None:
    value = gpu.get(name)
    return value if isinstance(value, bool) else None


def _caps(found: object) -> ClassCaps | None:
    """Return the caps that a node's lease holds; None from an agent that does not say."""
    return ClassCaps(*starmap(_optional, ((found, name) for name in NUMBERS))) if isinstance(found, dict) else None
