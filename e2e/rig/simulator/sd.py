"""What Prometheus should scrape, as its `http_sd` wants it: a list of `{targets, labels}` groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

from rig.simulator.pods import PodView
from rig.simulator.server import ENGINE_PORT

AGENT_PORT = 9808


class Group(TypedDict):
    """One `http_sd` group. `job` in the labels wins over the scrape configuration's name."""

    targets: list[str]
    labels: dict[str, str]


def engine(pod: PodView) -> Group:
    """Return the group of one engine, as a PodMonitor's labels would have it."""
    labels = {"job": "vllm", "namespace": pod.namespace, "pod": pod.name, "node": pod.node or ""}
    return {"targets": [f"{pod.ip}:{ENGINE_PORT}"], "labels": labels}


def agents(ips: Iterable[str]) -> list[Group]:
    """Return the group of the node agents; nothing where there are none yet."""
    targets = [f"{ip}:{AGENT_PORT}" for ip in sorted(ips)]
    return [{"targets": targets, "labels": {"job": "capstan-agent"}}] if targets else []


def fixed(job: str, target: str) -> Group:
    """Return the group of one target that never moves."""
    return {"targets": [target], "labels": {"job": job}}


def from_options(options: Sequence[str]) -> list[Group]:
    """Return the groups of `--extra-target job=host:port` options.

    Raises:
        ValueError: An option has another shape.
    """
    return [_from_option(option) for option in options]


def _from_option(option: str) -> Group:
    job, equals, target = option.partition("=")
    if not (job and equals and ":" in target):
        raise ValueError(f"--extra-target {option!r}: write job=host:port")
    return fixed(job, target)
