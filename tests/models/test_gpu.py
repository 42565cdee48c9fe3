"""The 4-bit path on a real card: random weights in the paper's two architectures through SFT, PPO and GRPO, and all notebooks.

Nothing is downloaded. `ALIGN_GPU_LAYERS` sets how many layers are built (default 2; 28 and 32 are the whole models, which
need about 16 GB of memory and of disk while they are made), `ALIGN_GPU_MODELS` a folder where they are kept for the next time,
`ALIGN_GPU_MEMORY` the GiB that a run may take (default 15: what a T4 leaves of its 16 GB). Where unsloth is not installed,
transformers loads the same 4-bit folder. `make test-gpu` shows tokens per second and peak memory.
"""

import gc
import os
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from conftest import copy_project, prepare, run_notebooks
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, Qwen2Config
from trl import SFTTrainer

from align_utils import config
from align_utils.config import settings as config_settings
from align_utils.models import decode, load, logprobs
from align_utils.store.steps import TrainingError
from align_utils.training import train as training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the 4-bit path needs one"),
]
LAYERS = int(os.environ.get("ALIGN_GPU_LAYERS", "2"))
MEMORY = float(os.environ.get("ALIGN_GPU_MEMORY", "15"))
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


# Small enough that all six notebooks run in minutes; the sides are whole blocks of the quantisation.
SMALL = LlamaConfig(
    vocab_size=8192, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=2048, tie_word_embeddings=False, **TOKENS,
)  # fmt: skip


def find_backend():
    """unsloth where it is installed, else transformers; skips without bitsandbytes, which both load 4-bit folders with."""
    pytest.importorskip("bitsandbytes", reason="extra `gpu` is not installed")
    try:
        import unsloth  # noqa: F401
    except ImportError:
        return "transformers"
    return "unsloth"


def save_random(folder, settings):
    """Random weights of an architecture as a folder of 4-bit safetensors with a tokenizer, like the hub's pre-quantised ones."""
    if (folder / "model" / "tokenizer.json").is_file():
        return folder / "model"
    device, dtype, _ = load.pick_device()
    _, tokenizer = load.load_base(config.load("smoke").models["tiny"], seed=0)
    torch.manual_seed(0)
    with torch.device(device):
        plain = AutoModelForCausalLM.from_config(settings, dtype=dtype)
    plain.save_pretrained(folder / "plain")
    del plain
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    small = AutoModelForCausalLM.from_pretrained(
        folder / "plain", dtype=dtype, quantization_config=quantization, device_map={"": device}
    )
    small.save_pretrained(folder / "model")
    for file in (folder / "plain").iterdir():
        file.unlink()
    tokenizer.save_pretrained(folder / "model")
    return folder / "model"


def describe(folder, backend):
    """The entry of `notebooks/settings/models` for such a folder."""
    return {
        "loader": "transformers", "source": str(folder), "backend": backend, "load_in_4bit": True, "licence": "none (random weights)",
    }  # fmt: skip


@pytest.fixture(params=ARCHITECTURES)
def project(request, tmp_path):
    """(settings of a run, its data, the log of what training took): the model `random` has the architecture's shape."""
    backend, kept = find_backend(), os.environ.get("ALIGN_GPU_MODELS")
    folder = save_random(Path(kept or tmp_path) / f"{request.param}-{LAYERS}", ARCHITECTURES[request.param])
    gc.collect()
    torch.cuda.empty_cache()
    cfg = config.load("smoke", root=copy_project(tmp_path))
    cfg.models["random"] = config_settings.ModelSource(name="random", **describe(folder, backend))
    vars(cfg)["profile"] = cfg.profile.model_copy(
        update={"lora": config.load("cpu", root=cfg.root).profile.lora}
    )  # the rank of colab too
    torch.cuda.set_per_process_memory_fraction(MEMORY * 2**30 / torch.cuda.get_device_properties(0).total_memory)
    yield cfg, prepare(cfg), f"{request.param}, {LAYERS} layers, {backend}, {torch.cuda.get_device_name()}"
    torch.cuda.set_per_process_memory_fraction(1.0)


def change(cfg, stage, **values):
    """The profile with other values of one stage."""
    settings = getattr(cfg.profile, stage).model_copy(update=values)
    vars(cfg)["profile"] = cfg.profile.model_copy(update={stage: settings})


def measure_peak(call):
    """(What the call returns, peak GiB of it)."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    result = call()
    return result, torch.cuda.max_memory_reserved() / 2**30


def test_sft_in_4_bits_learns_and_ppo_and_grpo_go_on_from_it(project, monkeypatch, capsys):
    cfg, data, what = project
    change(cfg, "sft", steps=20, eval_every=10, learning_rate=1e-3, batch=32, device_batch=8)
    change(cfg, "ppo", updates=2, episodes=8, device_batch=8, response_tokens=20)
    change(cfg, "critic_free", methods=["grpo"], updates=2, cues=2, samples=4, device_batch=8, response_tokens=20)
    train, measured = SFTTrainer.train, {}

    def train_timed(self, *args, **kwargs):
        start = time.perf_counter()
        output = train(self, *args, **kwargs)
        measured.update(seconds=time.perf_counter() - start, tokens=sum(map(len, self.train_dataset["input_ids"])))
        return output

    monkeypatch.setattr(SFTTrainer, "train", train_timed)
    peaks, logs = {}, {}
    for stage in ("sft", "ppo", "grpo"):
        start = time.perf_counter()
        folder, peaks[stage] = measure_peak(lambda stage=stage: training.train.train_stage(cfg, "random", "us", stage, data))
        logs[stage] = pd.read_csv(folder / "log.csv")
        with capsys.disabled():
            print(
                f"\n{what}: {stage} {time.perf_counter() - start:.0f} s with loading, peak {peaks[stage]:.1f} GiB", flush=True
            )
    losses = logs["sft"]["eval_loss"].dropna()
    with capsys.disabled():
        length = measured["tokens"] / (cfg.profile.sft.steps * cfg.profile.sft.batch)
        print(f"SFT {measured['tokens'] / measured['seconds']:,.0f} tokens/s with evaluation, {length:.0f} a list")
        print(f"loss on unseen cues {losses.iloc[0]:.2f} -> {losses.iloc[-1]:.2f}")
    assert measured["tokens"] > 0 and losses.iloc[-1] < losses.iloc[0] - 0.1, "the loss on unseen cues falls"
    for stage in ("ppo", "grpo"):
        rows = logs[stage].set_index("update")
        assert rows["reward_valid"].notna().sum() >= 2 and abs(rows.loc[1, "kl"]) < 0.5, "the policy starts as the SFT model"
    assert peaks["grpo"] < 1.5 * peaks["sft"], "a stage's model makes room for the next"


@torch.inference_mode()
def test_what_is_read_from_a_cache_is_what_is_read_at_once(project, capsys):
    cfg, _, what = project
    model, tokenizer = load.load_base(cfg.models["random"], seed=0)
    rows = [tokenizer(f"dog, {rest}")["input_ids"] for rest in ("cat", "a", "trees and birds", "c")]
    forced = torch.arange(4 * 3 * 6, device=model.device).reshape(12, 6) % 90 + 300
    seen = [[] for _ in forced]

    def pick(scores, ids, open_rows, step):
        for row, score in zip(open_rows, scores, strict=True):
            seen[row].append(score.log_softmax(dim=0))
        return forced[open_rows, step]

    decode.continue_rows(
        model, tokenizer.pad_token_id, rows, pick=pick, ends=lambda row, new: len(new) > row % 5, max_new_tokens=6, copies=3
    )
    apart, others = 0.0, []
    for row, scores in enumerate(seen):
        ids = torch.tensor([[*rows[row // 3], *forced[row].tolist()]], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(dim=-1)
        wanted = logits[len(rows[row // 3]) - 1 :][: len(scores)]
        apart = max(apart, float((torch.stack(scores) - wanted).abs().max()))
        others.append(wanted[0])
    tails = [(300,), (301,), (302, 303), (304, 305, 306)]
    (scored,) = logprobs.score_tails(model, tokenizer.pad_token_id, [(tuple(rows[2]), tails)], batch_tokens=400)
    for tail, logs in zip(tails, scored, strict=True):
        ids = torch.tensor([[*rows[2], *tail]], device=model.device)
        wanted = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(dim=-1)
        wanted = wanted[len(rows[2]) - 1 : -1].gather(1, torch.tensor(tail, device=model.device)[:, None]).squeeze(1)
        apart = max(apart, float((torch.tensor(logs, device=model.device) - wanted).abs().max()))
    # Rounding in 16 bits against what another prompt would have given.
    strange = float((others[0] - others[6]).abs().max())
    with capsys.disabled():
        print(f"\n{what}: largest difference of a log-probability {apart:.4f}; between two prompts {strange:.2f}")
    assert apart < strange / 10


def test_the_largest_batch_of_sft_is_found_by_what_the_error_names(project, capsys):
    cfg, data, what = project
    peaks = {}
    for rows in (8, 16, 32, 64, 128, 256, 512):
        change(cfg, "sft", steps=1, eval_every=1, batch=rows, device_batch=rows)
        try:
            _, peaks[rows] = measure_peak(lambda: training.train.train_stage(cfg, "random", "us", "sft", data))
            with capsys.disabled():
                print(f"\n{what}: {rows} lists at once under {MEMORY:g} GiB, peak {peaks[rows]:.1f} GiB", flush=True)
        except TrainingError as error:
            assert f"lower sft.device_batch in the profile (now {rows})" in str(error)
            break
    assert {8, 16} <= set(peaks), "the batch of the profile `colab` fits"


def test_the_notebooks_run_in_4_bits(tmp_path, capsys):
    backend, root = find_backend(), copy_project(tmp_path / "project")
    folder = save_random(tmp_path / "small", SMALL)
    (root / "notebooks/settings/models/random.yaml").write_text(yaml.safe_dump(describe(folder, backend)))
    # The controls and the critic-free methods take the same paths; leaving them out halves the time.
    profile = {"extends": "smoke", "models": ["random"], "controls": [], "critic_free": {"methods": []}}
    profile["survey"] = {"readouts": ["label", "text", "generated"]}
    (root / "notebooks/settings/profiles/four_bits.yaml").write_text(yaml.safe_dump(profile))
    start = time.perf_counter()
    done = run_notebooks(root, "--profile", "four_bits")
    with capsys.disabled():
        print(f"\nsix notebooks, {backend}: {time.perf_counter() - start:.0f} s")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    shares = pd.read_csv(root / "figures/four_bits/tab04_precision_at_5.csv")
    assert {"zero_shot", "few_shot", "sft", "ppo"} <= set(shares["stage"])
    asked = pd.read_parquet(root / "runs/four_bits/survey/random.parquet")
    assert asked["option_mass"].between(0, 1).all() and asked.groupby(["stage", "adapter"])["option_mass"].sum().nunique() > 4
