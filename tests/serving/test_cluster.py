"""What is kept of a pod: how long it took to start, where its conditions tell it."""

from __future__ import annotations

import pytest

from capstan.serving import cluster

CREATED, SCHEDULED, READY = "2026-11-21T10:00:00Z", "2026-11-21T10:00:30Z", "2026-11-21T10:04:10Z"
Raw = dict[str, object]


def condition(kind: str, at: str, *, status: str = "True") -> Raw:
    return {"type": kind, "status": status, "lastTransitionTime": at}


def pod(*conditions: Raw, created: str = CREATED, **statuses: object) -> Raw:
    metadata = {"namespace": "llm", "name": "chat-1", "creationTimestamp": created}
    return {"metadata": metadata, "status": {"conditions": list(conditions), **statuses}}


def restarted(*counts: int) -> list[Raw]:
    return [{"name": f"c{index}", "restartCount": count} for index, count in enumerate(counts)]


BOUND, UP = condition("PodScheduled", SCHEDULED), condition("Ready", READY)


@pytest.mark.parametrize(
    ("raw", "startup_s"),
    [
        pytest.param(pod(BOUND, UP), 220.0, id="from its node to Ready"),
        pytest.param(pod(UP, BOUND, containerStatuses=restarted(0, 0)), 220.0, id="in any order, nothing restarted"),
        pytest.param(pod(UP), 250.0, id="without PodScheduled: from its creation"),
        pytest.param(pod(BOUND, condition("Ready", SCHEDULED)), 0.0, id="within the second"),
        pytest.param(pod(BOUND, condition("Ready", READY, status="False")), None, id="not Ready"),
        pytest.param(pod(BOUND), None, id="no word of Ready"),
        pytest.param(pod(BOUND, UP, containerStatuses=restarted(0, 1)), None, id="a container was restarted"),
        pytest.param(pod(BOUND, UP, initContainerStatuses=restarted(2)), None, id="an init container was"),
        pytest.param(pod(BOUND, condition("Ready", CREATED)), None, id="Ready before it had a node: a clock was set"),
        pytest.param(pod(BOUND, condition("Ready", "2026-11-21T11:00:30Z")), 3600.0, id="an hour"),
        pytest.param(pod(BOUND, condition("Ready", "2026-11-21T11:00:31Z")), None, id="longer: Ready came back"),
        pytest.param(pod(UP, created=""), None, id="nobody says since when"),
        pytest.param(pod(BOUND, condition("Ready", "soon")), None, id="a time that is a word"),
    ],
)
def test_a_start_up_is_what_the_conditions_tell(raw: Raw, startup_s: float | None) -> None:
    assert cluster.pod(raw).startup_s == startup_s
