"""The shape of an LLM, read from its Hugging Face config.json: what it weighs, reads and computes per token.

Who calls it: `calibrate.form` and `capstan profile estimate`. Parameters are counted from the shape (no checkpoint is
read); families are told by `model_type`. Whatever is missing is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Config = Mapping[str, object]

DEFAULTS: dict[str, dict[str, int]] = {
    # What transformers fills in where a published config.json leaves it out.
    "gemma3_text": {
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262_208,
        "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    },
}  # fmt: skip
TIED = ("gemma", "gemma2", "gemma3", "gemma3_text", "bloom", "gpt2", "opt", "falcon")
"""Families whose input and output embeddings are one matrix unless the config says otherwise."""

PLAIN_MLP = ("bloom", "gpt2", "opt", "falcon", "gpt_neox")
"""Two matrices in the feed-forward part; everybody else has three (gate, up, down)."""

NORMS = {"qwen3": 4, "qwen3_moe": 4, "gemma3": 6, "gemma3_text": 6, "gemma2": 4, "olmo2": 4}
"""Normalisations per layer where there are not two: those of queries and keys, and those after a block."""

SPELLINGS = {
    "hidden_size": ("hidden_size", "n_embed", "n_embd", "d_model"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "vocab_size": ("vocab_size", "padded_vocab_size"),
}
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
BYTES = {"bfloat16": 2.0, "float16": 2.0, "fp8": 1.0}


@dataclass(frozen=True, slots=True)
class Geometry:
    """An LLM's shape. Counts of parameters are of weights that a decode step reads, so without the input embedding.

    Attributes:
        dense_count: Weights every token uses. expert_count: weights of all routed experts together.
        active_share_ratio: Routed experts of one token over all (1 for a dense LLM).
        embedding_count: Weights held but not streamed (the input embedding, where it is not the output's).
        kv_count_per_token: Numbers of keys and values per token; kv_shards_max: heads they can be split over.
        local_layers: Layers that see `window_tokens` only.
        context_limit: Longest sequence, 0 where the config does not say.
    """

    family: str
    layers: int
    hidden: int
    heads: int
    head_dim: int
    norms: int
    dense_count: float
    expert_count: float
    active_share_ratio: float
    embedding_count: float
    kv_count_per_token: float
    kv_shards_max: int
    local_layers: int
    window_tokens: int
    context_limit: int
    weight_dtype_bytes: float

    @property
    def held_count(self) -> float:
        """Return all weights."""
        return self.dense_count + self.expert_count + self.embedding_count

    @property
    def active_count(self) -> float:
        """Return the weights that one token multiplies with."""
        return self.dense_count + self.expert_count * self.active_share_ratio


def read(config: Config, dtype: str | None = None) -> Geometry:
    """Return the shape behind a config.json.

    Args:
        config: The parsed file.
        dtype: "bfloat16", "float16" or "fp8", for weights; None: what the config says.

    Raises:
        ValueError: A key is missing or is no positive integer, or the dtype is not one of ours.
    """
    text = _text(config)
    family = str(text.get("model_type", config.get("model_type", "")))
    hidden, layers = _count(text, "hidden_size", family), _count(text, "num_hidden_layers", family)
    heads = _count(text, "num_attention_heads", family)
    head_dim = _optional(text, "head_dim", family) or hidden // heads
    attention, kv_count, shards = _attention(text, family, hidden, heads, head_dim)
    mlp_dense, mlp_expert, share = _mlp(text, family, hidden, layers)
    norms = NORMS.get(family, 2)
    vocabulary = _count(text, "vocab_size", family) * hidden
    tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", family in TIED)))
    local, window = _windows(text, family, layers)
    return Geometry(
        family=family,
        layers=layers,
        hidden=hidden,
        heads=heads,
        head_dim=head_dim,
        norms=norms,
        dense_count=float(layers * (attention + norms * hidden) + mlp_dense + hidden + vocabulary),
        expert_count=float(mlp_expert),
        active_share_ratio=share,
        embedding_count=0.0 if tied else float(vocabulary),
        kv_count_per_token=float(layers * kv_count),
        kv_shards_max=shards,
        local_layers=local,
        window_tokens=window,
        context_limit=_optional(text, "max_position_embeddings", family),
        weight_dtype_bytes=_dtype_bytes(config, text, dtype),
    )


def _text(config: Config) -> Config:
    """Return the language model's part of a multimodal config."""
    nested = config.get("text_config")
    return nested if isinstance(nested, Mapping) else config


def _optional(text: Config, name: str, family: str) -> int:
    """Return a count, 0 where neither the config nor the family's defaults have it."""
    for key in SPELLINGS.get(name, (name,)):
        value = text.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"--config: {key} is {value!r}; it must be a whole number above 0")
        return value
    return DEFAULTS.get(family, {}).get(name, 0)


def _count(text: Config, name: str, family: str) -> int:
    value = _optional(text, name, family)
    if value <= 0:
        raise ValueError(f"--config: has no {name}; give the config.json of the model as Hugging Face publishes it")
    return value


def _attention(text: Config, family: str, hidden: int, heads: int, head_dim: int) -> tuple[int, int, int]:
    """Return (weights of one layer's attention, numbers of K and V per token and layer, shards they allow)."""
    rank = _optional(text, "kv_lora_rank", family)
    if rank:
        return _latent_attention(text, family, hidden, heads, rank)
    kv_heads = _optional(text, "num_key_value_heads", family) or heads
    weights = hidden * head_dim * (2 * heads + 2 * kv_heads)
    return weights, 2 * kv_heads * head_dim, kv_heads


def _latent_attention(text: Config, family: str, hidden: int, heads: int, rank: int) -> tuple[int, int, int]:
    """The same for DeepSeek's multi-head latent attention: one compressed vector per token, on every shard."""
    rope, plain = _count(text, "qk_rope_head_dim", family), _count(text, "qk_nope_head_dim", family)
    value, q_rank = _count(text, "v_head_dim", family), _optional(text, "q_lora_rank", family)
    queries = heads * (rope + plain)
    q_weights = hidden * q_rank + q_rank * queries if q_rank else hidden * queries
    kv_weights = hidden * (rank + rope) + rank * heads * (plain + value)
    return q_weights + kv_weights + heads * value * hidden, rank + rope, 1


def _mlp(text: Config, family: str, hidden: int, layers: int) -> tuple[int, int, float]:
    """Return (dense feed-forward weights, routed experts' weights, share of experts per token), over all layers."""
    matrices = 2 if family in PLAIN_MLP else 3
    width = _optional(text, "intermediate_size", family) or _optional(text, "ffn_dim", family) or 4 * hidden
    experts = next((found for key in EXPERTS if (found := _optional(text, key, family))), 0)
    if not experts:
        return layers * matrices * hidden * width, 0, 1.0
    expert_width = _optional(text, "moe_intermediate_size", family) or width
    per_token = _count(text, "num_experts_per_tok", family)
    plain = _optional(text, "first_k_dense_replace", family)
    routed = layers - plain
    shared = _optional(text, "n_shared_experts", family) * expert_width
    shared += _optional(text, "shared_expert_intermediate_size", family)
    dense = plain * matrices * hidden * width + routed * (matrices * hidden * shared + hidden * experts)
    return dense, routed * experts * matrices * hidden * expert_width, per_token / experts


def _windows(text: Config, family: str, layers: int) -> tuple[int, int]:
    """Return (layers with a sliding window, its tokens)."""
    window = _optional(text, "sliding_window", family) if text.get("sliding_window") else 0
    if family.startswith("gemma3"):
        pattern = _optional(text, "sliding_window_pattern", family) or 6
        return layers - layers // pattern, window or 1024
    if not window or text.get("use_sliding_window") is False:
        return 0, 0
    return layers, window


def _dtype_bytes(config: Config, text: Config, dtype: str | None) -> float:
    """Return bytes per weight."""
    if dtype is not None:
        if dtype not in BYTES:
            raise ValueError(f"--dtype: {dtype!r} is not supported; use one of {', '.join(BYTES)}")
        return BYTES[dtype]
    quantised = config.get("quantization_config", text.get("quantization_config"))
    if isinstance(quantised, Mapping):
        return _quantised_bytes(quantised)
    named = str(text.get("torch_dtype", text.get("dtype", config.get("torch_dtype", config.get("dtype", "bfloat16")))))
    if named not in BYTES:
        raise ValueError(f"--config: torch_dtype {named!r} is not supported; pass --dtype bfloat16 or fp8")
    return BYTES[named]


def _quantised_bytes(quantised: Config) -> float:
    method = str(quantised.get("quant_method", ""))
    text = str(quantised)
    if method == "fp8" or "float8" in text or ("'num_bits': 8" in text and "'float'" in text):
        return BYTES["fp8"]
    raise ValueError(f"--config: quantization {method!r} is not supported; bfloat16 and fp8 are (pass --dtype)")
