"""Pods and nodes of the API server, cut down to what the simulator and the load driver ask of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import cast

from rig.simulator import vllm

POLICY_LABEL = "capstan.dev/policy"
STATE_LABEL = "capstan.dev/state"
COMPONENT_LABEL = "app.kubernetes.io/component"
GPU_RESOURCE = "nvidia.com/gpu"
GPU_PRODUCT_LABEL = "nvidia.com/gpu.product"
DEFAULT_GRACE_S = 30.0  # Kubernetes' terminationGracePeriodSeconds where a pod names none

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node with GPUs."""

    name: str
    gpus: int
    gpu_product: str


@dataclass(frozen=True, slots=True)
class EngineArgs:
    """The vLLM flags that change what the simulator does; None where the pod leaves one out."""

    model: str = "unknown"
    served_model_name: str | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    buckets: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def model_name(self) -> str:
        """The `model_name` label of vLLM: the served name, else the model."""
        return self.served_model_name or self.model


@dataclass(frozen=True, slots=True)
class PodView:
    """An engine pod.

    `policy` is `namespace/name`; `deleting`: a deletionTimestamp is set; `draining`: labelled so, but here to stay
    for now; `flaw`: a flag that vLLM would refuse, so that this engine never answers.
    """

    uid: str
    namespace: str
    name: str
    policy: str
    node: str | None
    ip: str | None
    ready: bool
    deleting: bool
    draining: bool
    grace_s: float
    gpus: int
    container: str
    args: EngineArgs
    flaw: str | None = None


def node_view(node: Json) -> NodeView | None:
    """Return the node, or None where it has no GPU."""
    gpus = int(str(_at(node, "status", "allocatable").get(GPU_RESOURCE, 0)))
    if gpus < 1:
        return None
    product = str(_at(node, "metadata", "labels").get(GPU_PRODUCT_LABEL, "unknown"))
    return NodeView(name=str(_at(node, "metadata")["name"]), gpus=gpus, gpu_product=product)


def engine_pod(pod: Json) -> PodView | None:
    """Return the pod, or None where it is no engine pod of a policy (label `capstan.dev/policy`) or has ended."""
    metadata, spec, status = _at(pod, "metadata"), _at(pod, "spec"), _at(pod, "status")
    labels = _at(metadata, "labels")
    if POLICY_LABEL not in labels or status.get("phase") in {"Succeeded", "Failed"}:
        return None
    container = _gpu_container(spec)
    args, flaw = _args_or_flaw(_argv(container))
    grace = metadata.get("deletionGracePeriodSeconds", spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S))
    return PodView(
        uid=str(metadata["uid"]),
        namespace=str(metadata["namespace"]),
        name=str(metadata["name"]),
        policy=f"{metadata['namespace']}/{labels[POLICY_LABEL]}",
        node=_text(spec.get("nodeName")),
        ip=_text(status.get("podIP")),
        ready=_is_ready(status),
        deleting="deletionTimestamp" in metadata,
        draining=labels.get(STATE_LABEL) == "draining",
        grace_s=float(str(grace)),
        gpus=_gpus(container),
        container=str(container.get("name", "")),
        args=args,
        flaw=flaw,
    )


def component_ip(pod: Json, component: str) -> str | None:
    """Return the pod's IP where it is a running pod of a Capstan component, else None."""
    if _at(pod, "metadata", "labels").get(COMPONENT_LABEL) != component:
        return None
    return _text(_at(pod, "status").get("podIP"))


def engine_args(argv: Sequence[str]) -> EngineArgs:
    """Return the flags of `vllm serve MODEL --flag value --flag=value ...` that matter here.

    Raises:
        ValueError: A flag that the simulator honours has a value that vLLM would refuse.
    """
    flags = dict(_flags(argv))
    served = flags.get("--served-model-name")
    return EngineArgs(
        model=flags.get("--model") or _positional_model(argv) or EngineArgs().model,
        served_model_name=served or None,
        max_num_seqs=_whole(flags, "--max-num-seqs"),
        max_num_batched_tokens=_whole(flags, "--max-num-batched-tokens"),
        max_model_len=_whole(flags, "--max-model-len"),
        buckets=_buckets(flags.get("--custom-histogram-buckets")),
    )


def _args_or_flaw(argv: Sequence[str]) -> tuple[EngineArgs, str | None]:
    try:
        return engine_args(argv), None
    except ValueError as error:
        return EngineArgs(), str(error)


def _flags(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word, following in zip_longest(argv, argv[1:], fillvalue=""):
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            yield flag, value if equals else ("" if following.startswith("--") else following)


def _positional_model(argv: Sequence[str]) -> str | None:
    after = argv[argv.index("serve") + 1 :] if "serve" in argv else ()
    return after[0] if after and not after[0].startswith("-") else None


def _whole(flags: Mapping[str, str], flag: str) -> int | None:
    text = flags.get(flag)
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{flag}={text!r} is not a whole number above zero")
    return int(text)


def _buckets(text: str | None) -> dict[str, tuple[float, ...]]:
    if not text:
        return {}
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"--custom-histogram-buckets is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ValueError("--custom-histogram-buckets must map a bucket family to a list of edges")  # noqa: TRY004 - the flag's value is wrong, not our types
    return vllm.checked_overrides(parsed)


def _gpu_container(spec: Json) -> Json:
    containers = cast(Sequence[Json], spec.get("containers", ()))
    return max(containers, key=_gpus, default={})


def _gpus(container: Json) -> int:
    return int(str(_at(container, "resources", "limits").get(GPU_RESOURCE, 0)))


def _argv(container: Json) -> list[str]:
    words = [*cast(Sequence[str], container.get("command") or ()), *cast(Sequence[str], container.get("args") or ())]
    return [str(word) for word in words]


def _is_ready(status: Json) -> bool:
    conditions = cast(Sequence[Json], status.get("conditions") or ())
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _at(value: Json, *path: str) -> Json:
    for key in path:
        value = cast(Json, value.get(key) or {})
    return value


def _text(value: object) -> str | None:
    return str(value) if value else None
