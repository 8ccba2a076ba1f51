"""The names that serving writes on objects and reads from them (docs/designs/20261121-the-house.md, Names)."""

from __future__ import annotations

POLICY_LABEL = "capstan.dev/policy"
POOL_LABEL = "capstan.dev/pool"
STATE_LABEL = "capstan.dev/state"
TP_LABEL = "capstan.dev/tensor-parallel"
ACTIVE = "active"
DRAINING = "draining"

GPU_PRODUCT_LABEL = "nvidia.com/gpu.product"
GPU_RESOURCE = "nvidia.com/gpu"
TP_ENV = "CAPSTAN_TENSOR_PARALLEL"

HASH_ANNOTATION = "capstan.dev/template-hash"
DELETION_COST_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
RELEASE_FINALIZER = "capstan.dev/release-targets"

API_VERSION = "capstan.dev/v1alpha1"
MANAGER = "capstan-serving"

ENGINE_PORT = 8000
POOL = "all"  # the one pool of the Single scheme
