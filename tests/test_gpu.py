"""The 4-bit path on a real card: random weights in the paper's two architectures, a few steps of SFT. Not yet run on a GPU by us.

Nothing is downloaded. `ALIGN_GPU_LAYERS` sets how many layers are built (default 2; 28 and 32 are the whole models, which
need about 16 GB of memory and of disk while they are made). Where unsloth is not installed, transformers loads the same
4-bit folder. `make test-gpu` shows tokens per second and peak memory.
"""

import os
import time

import pandas as pd
import pytest
import torch
from conftest import copy_project
from test_training import prepare
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, Qwen2Config
from trl import SFTTrainer

from align_utils import config, models, sft

LAYERS = int(os.environ.get("ALIGN_GPU_LAYERS", "2"))
TOKENS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
# Values of the published config.json of Qwen/Qwen2.5-7B and meta-llama/Llama-3.1-8B; the token ids are our tokenizer's.
ARCHITECTURES = {
    "qwen2.5-7b": Qwen2Config(
        vocab_size=152_064, hidden_size=3584, intermediate_size=18_944, num_hidden_layers=LAYERS, num_attention_heads=28,
        num_key_value_heads=4, max_position_embeddings=131_072, rms_norm_eps=1e-6, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0}, **TOKENS,
    ),
    "llama-3.1-8b": LlamaConfig(
        vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=LAYERS, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=131_072, rms_norm_eps=1e-5, tie_word_embeddings=False,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }, **TOKENS,
    ),
}  # fmt: skip


def save_random(folder, settings, tokenizer, quantization):
    """Random weights of an architecture as a folder of 4-bit safetensors with a tokenizer, like the hub's pre-quantised ones."""
    _, dtype, _ = models.pick_device()
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(settings, dtype=dtype)
    plain.save_pretrained(folder / "plain")
    del plain
    small = AutoModelForCausalLM.from_pretrained(
        folder / "plain", dtype=dtype, quantization_config=quantization, device_map={"": models.pick_device()[0]}
    )
    small.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder / "model"


def run_sft(tmp_path, monkeypatch, settings, quantization, backend):
    """Train through `train_sft` as a notebook does; returns the log, tokens trained on and seconds of training."""
    cfg = config.load("smoke", root=copy_project(tmp_path))
    longer = cfg.profile.sft.model_copy(update={"steps": 20, "eval_every": 10, "learning_rate": 1e-3})
    cfg.profile = cfg.profile.model_copy(update={"sft": longer})
    _, tokenizer = models.load_base(cfg.models["tiny"], seed=0)
    folder = save_random(tmp_path, settings, tokenizer, quantization)
    cfg.models["random"] = config.ModelSource(
        name="random",
        loader="transformers",
        source=str(folder),
        backend=backend,
        load_in_4bit=True,
        licence="none (random weights)",
    )
    monkeypatch.setattr(sft, "hash_base", lambda *_, **__: "random")
    train, measured = SFTTrainer.train, {}

    def train_timed(self, *args, **kwargs):
        start = time.perf_counter()
        output = train(self, *args, **kwargs)
        measured.update(seconds=time.perf_counter() - start, tokens=max(e.get("num_tokens", 0) for e in self.state.log_history))
        return output

    monkeypatch.setattr(SFTTrainer, "train", train_timed)
    adapter = sft.train_sft(cfg, "random", "us", prepare(cfg)["us"])
    return pd.read_csv(adapter / "log.csv"), measured


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the 4-bit path needs one")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sft_in_4_bits_learns(name, tmp_path, monkeypatch, capsys):
    pytest.importorskip("bitsandbytes", reason="extra `gpu` is not installed")
    try:
        import unsloth  # noqa: F401

        backend = "unsloth"
    except ImportError:
        backend = "transformers"
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=models.pick_device()[1],
    )
    torch.cuda.reset_peak_memory_stats()
    log, measured = run_sft(tmp_path, monkeypatch, ARCHITECTURES[name], quantization, backend)
    with capsys.disabled():
        speed, peak = measured["tokens"] / measured["seconds"], torch.cuda.max_memory_allocated() / 2**30
        print(f"\n{name}, {LAYERS} layers, {backend}: {speed:,.0f} tokens/s with evaluation, peak {peak:.1f} GiB")
    assert measured["tokens"] > 0
    losses = log["eval_loss"].dropna()
    assert losses.iloc[-1] < losses.iloc[0] - 0.1, "the loss on unseen cues falls"
