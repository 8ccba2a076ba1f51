"""Two measured pokes, outside the scored trace: a spec change, and a sudden load; how soon do replicas follow?

Both delays end at the scale write as the API server received it (its audit log). A spec change begins with the
server's answer to it; a load step begins with the first scrape that shows it, since nobody could have known earlier.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from rig.demo import audit, promql
from rig.demo.stage import ROOT, Stage

BURST = 300  # requests at once: vLLM's 256 sequences of one replica, and more, so that some must wait
PROMPT_TOKENS, OUTPUT_TOKENS = 400, 150  # a few seconds of work: the step lasts longer than a scrape and a period
SPACING_S = 5.0
AFTER_S = 6.0  # after the last burst: two scrapes and two periods of the shortened loops

Rest = Callable[[], object]


def change_bounds(stage: Stage, policy: str, bounds: Mapping[str, int]) -> None:
    """Patch the bounds of a policy (`namespace/name`), such as `{"minReplicas": 3}`."""
    namespace, _, name = policy.partition("/")
    stage.patch("servingpolicy", name, {"spec": {"bounds": dict(bounds)}}, f"--namespace={namespace}")


def await_scale(stage: Stage, policy: str, *, since_s: float, timeout_s: float, rest: Rest) -> float | None:
    """Wait for the scale write that follows the first spec change after `since_s`; returns its delay, None without."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        delay_s = audit.spec_to_scale_s(writes(stage), policy, since_s=since_s)
        if delay_s is not None:
            return delay_s
        rest()
    return None


def writes(stage: Stage) -> list[audit.Write]:
    """Return every write that the API server has seen so far."""
    with stage.control.audit_log.open() as log:
        return audit.read(log)


def load_steps(stage: Stage, policies: Sequence[str], rest: Rest) -> list[float]:
    """Send one burst to each policy, a few seconds apart, and return the delays of those that were scaled for it."""
    requests = stage.folder / "bursts.jsonl"
    requests.write_text("".join(_burst(policy, index * SPACING_S) for index, policy in enumerate(policies)))
    began_s = time.time()
    argv = [sys.executable, "-m", "rig.load", f"--kubeconfig={stage.control.kubeconfig}", f"--requests={requests}",
            f"--out={stage.folder / 'bursts.out.jsonl'}", f"--drain-seconds={AFTER_S:g}"]  # fmt: skip
    stage.control.supervisor.start("bursts", argv, env={"PYTHONPATH": str(ROOT / "e2e")})
    until_s = began_s + SPACING_S * len(policies) + AFTER_S
    while time.time() < until_s:
        rest()
    stage.forget("bursts")
    seen = writes(stage)
    delays = (_step_s(stage, seen, policy, began_s, until_s) for policy in policies)
    return [delay for delay in delays if delay is not None]


def _burst(policy: str, t_s: float) -> str:
    request = {"policy": policy, "t": t_s, "prompt_tokens": PROMPT_TOKENS, "output_tokens": OUTPUT_TOKENS}
    return "".join(json.dumps({**request, "id": number}) + "\n" for number in range(BURST))


def _step_s(stage: Stage, seen: list[audit.Write], policy: str, since_s: float, until_s: float) -> float | None:
    """Return the time from the scrape that first shows a burst to the scale write after it; None without one."""
    prefix = f"{policy.rpartition('/')[2]}-tp"
    shown_s = promql.first_rise_s(stage.prometheus_url, pod_prefix=prefix, since_s=since_s, until_s=until_s)
    if shown_s is None:
        return None
    scales = [w.received_s for w in audit.scale_writes(seen, policy) if shown_s <= w.received_s <= until_s]
    return min(scales) - shown_s if scales else None
