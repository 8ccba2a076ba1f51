"""Pods of the API server become what the simulator acts on; flags mean what they mean to vLLM."""

from __future__ import annotations

import pytest

from rig.simulator import pods
from support import simulator


def test_a_bound_ready_pod_is_seen_with_its_gpus_and_its_policy() -> None:
    pod = pods.engine_pod(simulator.pod_object("--model=meta/L", "--served-model-name", "chat"))
    assert pod is not None
    assert (pod.policy, pod.node, pod.ip, pod.ready, pod.gpus) == ("llm/chat", "gpu-0", "127.89.0.7", True, 4)
    assert pod.container == "engine", "the container that asks for GPUs, not the first"
    assert pod.grace_s == 90
    assert not pod.deleting
    assert pod.args.model_name == "chat"


def test_a_pod_without_the_policy_label_is_none_of_ours() -> None:
    assert pods.engine_pod(simulator.pod_object(labels={"app": "other"})) is None


def test_a_pod_that_ended_is_none_of_ours() -> None:
    ended = simulator.pod_object() | {"status": {"phase": "Succeeded"}}
    assert pods.engine_pod(ended) is None


def test_the_grace_of_the_deletion_wins_over_the_grace_of_the_template() -> None:
    deleted = simulator.pod_object(deletionTimestamp="2026-11-21T00:00:00Z", deletionGracePeriodSeconds=5)
    pod = pods.engine_pod(deleted)
    assert pod is not None
    assert pod.deleting
    assert pod.grace_s == 5


def test_a_pod_before_the_scheduler_has_seen_it_has_no_node_and_no_address() -> None:
    bare = simulator.pod_object()
    bare["spec"] = {"containers": []}
    bare["status"] = {}
    pod = pods.engine_pod(bare)
    assert pod is not None
    assert (pod.node, pod.ip, pod.ready, pod.gpus, pod.grace_s) == (None, None, False, 0, 30.0)


@pytest.mark.parametrize(
    ("argv", "model_name"),
    [
        pytest.param(["--model", "meta/L"], "meta/L", id="flag and value apart"),
        pytest.param(["--model=meta/L"], "meta/L", id="flag=value"),
        pytest.param(["vllm", "serve", "meta/L", "--port=8000"], "meta/L", id="the positional model of vllm serve"),
        pytest.param(["--model=meta/L", "--served-model-name=chat"], "chat", id="the served name wins"),
        pytest.param(["--enable-prefix-caching", "--model", "meta/L"], "meta/L", id="after a switch without value"),
        pytest.param([], "unknown", id="nothing said"),
    ],
)
def test_the_model_name_label_is_the_served_name_or_the_model(argv: list[str], model_name: str) -> None:
    assert pods.engine_args(argv).model_name == model_name


def test_engine_limits_and_buckets_come_from_the_flags() -> None:
    args = pods.engine_args(
        [
            *("--max-num-seqs=64", "--max-num-batched-tokens", "2048", "--max-model-len=8192"),
            *("--custom-histogram-buckets", '{"inter_token_latency": [0.05, 0.1]}'),
        ]
    )
    assert (args.max_num_seqs, args.max_num_batched_tokens, args.max_model_len) == (64, 2048, 8192)
    assert args.buckets == {"inter_token_latency": (0.05, 0.1)}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        pytest.param(["--max-num-seqs=many"], "--max-num-seqs='many'", id="a limit that is no number"),
        pytest.param(["--max-num-seqs=0"], "above zero", id="a limit of zero"),
        pytest.param(["--custom-histogram-buckets={"], "not JSON", id="buckets that are no JSON"),
        pytest.param(["--custom-histogram-buckets=[1]"], "must map", id="buckets that are a list"),
    ],
)
def test_flags_that_vllm_would_refuse_are_refused_by_name(argv: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pods.engine_args(argv)


def test_nodes_count_only_with_gpus() -> None:
    gpu = {
        "metadata": {"name": "gpu-0", "labels": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}},
        "status": {"allocatable": {"nvidia.com/gpu": "8"}},
    }
    assert pods.node_view(gpu) == pods.NodeView("gpu-0", 8, "NVIDIA-H100-80GB-HBM3")
    assert pods.node_view({"metadata": {"name": "cpu-0"}, "status": {"allocatable": {"cpu": "8"}}}) is None


def test_agents_are_found_by_their_component_label_once_they_have_an_address() -> None:
    agent = simulator.pod_object(labels={pods.COMPONENT_LABEL: "agent"})
    assert pods.component_ip(agent, "agent") == "127.89.0.7"
    assert pods.component_ip(simulator.pod_object(), "agent") is None


def test_a_pod_with_a_flaw_is_still_a_pod() -> None:
    """It was scheduled and holds its GPUs, as a crash-looping engine does."""
    pod = pods.engine_pod(simulator.pod_object("--max-num-seqs=many"))
    assert pod is not None
    assert pod.gpus == 4
    assert pod.flaw is not None
    assert "--max-num-seqs" in pod.flaw
