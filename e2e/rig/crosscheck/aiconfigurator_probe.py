"""Runs inside the venv of aiconfigurator-core, by path: a question as JSON on stdin, its answers as JSON on stdout.

Who calls it: `rig.crosscheck.aiconfigurator`, as a process. Must not import anything of ours: that venv has none of it.
Their names are kept in here (isl, osl: prompt and output tokens; ms); what leaves is in ours.
"""

import contextlib
import importlib
import json
import logging
import sys
from pathlib import Path

BACKEND = "vllm"
MEASURED = "silicon"  # their word for an operation that lies inside a measured table
GPU_MEMORY_USAGE = 0.9  # vLLM's own --gpu-memory-utilization
MAX_NUM_TOKENS, MAX_NUM_SEQS = 2048, 256  # the engine limits of our shipped profiles' scheduler


def version_of(system: str) -> str:
    """Return the newest engine version whose matrix products were measured on a system."""
    package = importlib.import_module("aiconfigurator_core")
    tables = Path(str(package.__file__)).parent / "systems" / "data" / system / "gemm" / BACKEND
    found = sorted((tuple(map(int, path.name.split("."))), path.name) for path in tables.glob("*.*.*"))
    if not found:
        raise ValueError(f"no tables of {BACKEND} for {system}")
    return found[-1][1]


def answers(llm: str, system: str, tp: int, shapes: list[list[int]]) -> list[dict[str, object]]:
    """Return what they say of one degree: a row per (batch, prompt tokens, output tokens)."""
    version = version_of(system)
    compiled = importlib.import_module("aiconfigurator_core.sdk.engine").EngineHandle.compile
    handle = compiled(llm, system, BACKEND, backend_version=version, tp_size=tp)
    kv_tokens = kv_tokens_of(llm, system, version, tp)
    return [
        {"tp": tp, "engine": f"{BACKEND} {version}", "kv_tokens": kv_tokens, **row(handle, *shape)} for shape in shapes
    ]


def row(handle: object, batch: int, prompt_tokens: int, output_tokens: int) -> dict[str, object]:
    """Return one prefill of a prompt alone, and the mean decode step of the batch."""
    static = getattr(handle, "run_static")  # noqa: B009 - mypy cannot see their types from here
    per_op = getattr(handle, "run_static_per_op")  # noqa: B009 - see above
    prefill_ms = static(batch_size=1, isl=prompt_tokens, osl=output_tokens)[0]
    decode_ms = static(batch_size=batch, isl=prompt_tokens, osl=output_tokens)[1]
    context, _ = per_op(batch_size=1, isl=prompt_tokens, osl=output_tokens)
    _, generation = per_op(batch_size=batch, isl=prompt_tokens, osl=output_tokens)
    return {
        "batch": batch,
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "prefill_s": prefill_ms / 1e3,
        "decode_step_s": decode_ms / 1e3 / (output_tokens - 1),
        "prefill_measured_ratio": measured(context),
        "decode_measured_ratio": measured(generation),
    }


def measured(ops: list[tuple[str, float, float, str]]) -> float:
    """Return the share of the time that rests on measured tables."""
    whole = sum(ms for _, ms, _, _ in ops)
    return sum(ms for _, ms, _, source in ops if source == MEASURED) / whole if whole else 0.0


def kv_tokens_of(llm: str, system: str, version: str, tp: int) -> int:
    """Return the tokens that fit beside the weights; 0 where they do not fit (their latencies come all the same)."""
    estimate = importlib.import_module("aiconfigurator_core.sdk.memory").estimate_kv_cache
    try:
        found = estimate(
            llm, system, BACKEND, version, max_num_tokens=MAX_NUM_TOKENS, max_batch_size=MAX_NUM_SEQS,
            memory_fraction_kind="of_total", memory_fraction_value=GPU_MEMORY_USAGE, tp_size=tp,
        )  # fmt: skip
    except ValueError as problem:
        if "unsupported" in str(problem):
            raise
        return 0
    return int(found["total_kv_size_tokens"])


def main() -> None:
    """Answer one question."""
    logging.disable(logging.WARNING)
    asked = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # their notices are not our answer
        rows = [r for tp in asked["tps"] for r in answers(asked["llm"], asked["system"], tp, asked["shapes"])]
    sys.stdout.write(json.dumps(rows))


if __name__ == "__main__":
    main()
