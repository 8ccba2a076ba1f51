"""A pipeline of pp stages as physics: pp lanes, each a batch of its own at the pace of the tp profile. Modelled.

Who calls it: `setups.screen`, `setups.apart`. Must not know: fleets, traces.

A batch passes stages of 1/pp of the layers each, one after the other, while pp - 1 other batches fill the other
stages. So a token of one batch takes as long as on the tp engine with that batch, and the hops between stages on top:
no latency is gained. In that time each GPU streams its 1/pp of the weights once per lane and is busy with a lane for
1/pp of it, so that tp x pp GPUs with pp lanes draw what pp engines of tp GPUs draw with the same batches. What is
gained is room: weights lie once per pipeline, not once per lane. Hence a replica of tp x pp GPUs is played as pp
replicas of tp GPUs with more KV cache and slower steps.

Assumed, and not measured by any data that we have:
- stages take equally long (layers divide evenly; embedding and head weigh nothing);
- lanes do not wait for each other: a prompt's chunk in one lane delays no other. Real pipelines have bubbles there;
- chunks of one prompt do not overlap in the pipeline, which engines can do. TTFT of long prompts is too high by that;
- a lane has 1/pp of the sequences and of the KV cache, and cannot borrow its neighbours'.
The first and second flatter pipelines, the third and fourth do the opposite.
"""

from __future__ import annotations

from dataclasses import replace

from capstan.model.profile import Profile
from capstan.replay.setups.kinds import Engine

HOP_S = 20e-6
"""A message between stages, assumed: what `calibrate.form` takes for one between nodes, above any inside a node."""

HOP_BYTES_PER_S = 50e9
"""400 Gbit/s InfiniBand per GPU, the port of a DGX H100 (`calibrate.form`): stages may lie on different servers."""

TOKEN_BYTES = 16384.0
"""Activations of one token between stages: 8,192 numbers of 2 bytes, Llama-3.1-70B's; smaller LLMs send less."""


def lane(profile: Profile, engine: Engine) -> Profile:
    """Return the physics of one lane of an engine; of an engine without stages, the profile with its flags.

    KV room of a lane, in tokens, with R = weights + KV bytes that fit on a GPU at tp:
    (R - weights / pp) / (KV bytes per token / pp) / pp = tokens at tp + (1 - 1 / pp) weights / KV bytes per token.
    """
    if engine.tp != profile.tp:
        raise ValueError(f"an engine of tp {engine.tp} has the physics of its own tp, not of {profile.tp}")
    flagged = replace(profile, max_num_seqs=engine.max_num_seqs // engine.pp, chunk_tokens=engine.chunk_tokens)
    if engine.pp == 1:
        return flagged
    hops = engine.pp - 1
    token_s = hops * TOKEN_BYTES / engine.tp / HOP_BYTES_PER_S  # every GPU of a stage sends its share
    timing, work = profile.timing, profile.work
    freed_bytes = (1 - 1 / engine.pp) * (work.weight_bytes + work.expert_bytes)
    return replace(
        flagged,
        name=f"{profile.name}-pp{engine.pp}",
        timing=replace(
            timing,
            host_s=timing.host_s + hops * HOP_S,
            prefill_per_token_s=timing.prefill_per_token_s + token_s,
            prefill_per_token_long_s=timing.prefill_per_token_long_s + token_s,
        ),
        kv_tokens=profile.kv_tokens + int(freed_bytes / work.kv_bytes_per_token),
        fit_error_ratio=None,
        provenance=f"modelled: {engine.pp} pipeline stages of {profile.name}; nobody measured a pipeline",
    )
