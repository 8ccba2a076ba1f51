"""Shapes from config.json: counts that the makers publish, and every missing key by name."""

from __future__ import annotations

import pytest

from capstan.calibrate import geometry, gpus, memory

MIXTRAL: dict[str, object] = {
    "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "num_local_experts": 8,
    "num_experts_per_tok": 2, "torch_dtype": "bfloat16", "sliding_window": None, "tie_word_embeddings": False,
}  # fmt: skip
QWEN3_MOE: dict[str, object] = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48,
    "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936, "num_experts": 128,
    "num_experts_per_tok": 8, "moe_intermediate_size": 768, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
DEEPSEEK: dict[str, object] = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "num_hidden_layers": 61,
    "num_attention_heads": 128, "num_key_value_heads": 128, "vocab_size": 129280, "n_routed_experts": 256,
    "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "n_shared_experts": 1, "first_k_dense_replace": 3,
    "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3"}, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("meta-llama/Llama-2-7b-hf", 6.74),
        ("meta-llama/Llama-2-70b-hf", 68.98),
        ("meta-llama/Llama-3.1-8B-Instruct", 8.03),
        ("meta-llama/Llama-3.1-70B-Instruct", 70.55),
        ("Qwen/Qwen3-8B", 8.19),
        ("Qwen/Qwen3-32B", 32.76),
        ("google/gemma-3-12b-it", 11.77),  # 12.19 with the vision tower, which a decode step does not read
        ("bigscience/bloom", 176.2),
    ],
)
def test_parameters_are_counted_as_published(name: str, billions: float) -> None:
    assert memory.published()[name].held_count / 1e9 == pytest.approx(billions, rel=0.002)


@pytest.mark.parametrize(
    ("config", "billions", "active"),
    [(MIXTRAL, 46.7, 12.9), (QWEN3_MOE, 30.5, 3.3), (DEEPSEEK, 671.0, 37.0)],
    ids=["Mixtral-8x7B", "Qwen3-30B-A3B", "DeepSeek-V3"],
)
def test_experts_are_counted_as_published(config: dict[str, object], billions: float, active: float) -> None:
    """Published active counts hold the input embedding; ours, what a step reads, does not."""
    llm = geometry.read(config)
    assert llm.held_count / 1e9 == pytest.approx(billions, rel=0.01)
    assert (llm.active_count + llm.embedding_count) / 1e9 == pytest.approx(active, rel=0.03)


def test_latent_attention_keeps_one_vector_per_token() -> None:
    """DeepSeek-V3: 61 layers x (512 + 64) numbers, 70 kB in 16 bits; a copy on every shard."""
    llm = geometry.read(DEEPSEEK)
    assert llm.kv_count_per_token == 61 * 576
    assert llm.kv_shards_max == 1
    assert llm.weight_dtype_bytes == 1


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(ValueError, match=f"has no {key}"):
        geometry.read({name: value for name, value in MIXTRAL.items() if name != key})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"num_hidden_layers": "many"}, "num_hidden_layers"),
        ({"hidden_size": -1}, "hidden_size"),
        ({"torch_dtype": "float64"}, "torch_dtype"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "quantization"),
    ],
    ids=["words", "negative", "dtype", "four bits"],
)
def test_what_cannot_be_used_is_named(change: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        geometry.read(MIXTRAL | change)


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("h100", "H100-SXM5-80GB"), ("NVIDIA-H100-80GB-HBM3", "H100-SXM5-80GB"), ("A100-SXM4-40GB", "A100-40GB"),
        ("A100-80", "A100-80GB"), ("nvidia-h200", "H200"), ("B200", "B200"), ("AMD Instinct MI300X", "MI300X"),
    ],
)  # fmt: skip
def test_a_gpu_has_many_spellings(spelled: str, name: str) -> None:
    assert gpus.find(spelled).name == name


def test_an_unknown_gpu_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="A100-40GB, A100-80GB, H100"):
        gpus.find("V100")
