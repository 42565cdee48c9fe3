"""Every third-party call the package makes fits the installed signature: names, keywords, number of arguments."""

import inspect
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from calls import PACKAGE, find_calls, find_model_calls, named, resolve, unknown
from datasets import Dataset
from peft import get_peft_model
from transformers import DynamicCache, Gemma3ForCausalLM, Gemma3Model
from trl import SFTTrainer

from align_utils.models import decode, load, logprobs
from align_utils.store.steps import ModelError
from align_utils.training import preference, sft

CALLS = find_calls({"trl", "peft", "transformers", "datasets", "accelerate"})


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.where}-{call.target}")
def test_call_fits_the_installed_signature(call):
    assert not unknown(call), f"{call.where}: {call.target} does not know {sorted(unknown(call))}"
    signature = inspect.signature(resolve(call.target))
    if call.target.endswith("AutoModelForCausalLM.from_config"):
        return  # shows `**kwargs` alone; the configuration it takes is its first argument by the documentation
    plain = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    assert call.positional <= len(plain) or any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())


def test_the_reader_sees_what_matters():
    # A place that is not read has no contract.
    assert {path.parent.name for path in PACKAGE} >= {"models", "training", "lexical", "survey", "norms", "store"}
    by_target = {call.target: set(call.keywords) for call in CALLS}
    # Through `**settings | changes`, an annotated result and a class that is picked at run time.
    assert {"max_steps", "fp16", "max_length"} <= by_target["trl.SFTConfig"]
    assert {"peft_config", "eval_dataset"} <= by_target["trl.SFTTrainer"]
    assert {"value_model", "ref_model"} <= by_target["trl.experimental.ppo.PPOTrainer"]
    assert "trl.experimental.ppo.PPOTrainer.add_callback" in by_target
    assert {"adapter_name", "is_trainable"} == by_target["peft.PeftModel.load_adapter"]


def test_a_wrong_keyword_or_name_would_be_found(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(
        "from trl import SFTConfig\nfrom transformers import AutoTokenizer\n"
        "def f(folder, **changes):\n    settings = dict(max_seq_length=3)\n    return SFTConfig(output_dir=folder, **settings | changes)\n"
        "AutoTokenizer.from_pretrained('x', padding_sides='left')\n"
    )
    assert [unknown(call) for call in find_calls({"trl", "transformers"}, [path])] == [{"padding_sides"}, {"max_seq_length"}]
    with pytest.raises(AttributeError):
        resolve("trl.NoSuchTrainer")
    path.write_text("from trl import SFTConfig\ndef f(given):\n    return SFTConfig(**given)\n")
    with pytest.raises(AssertionError, match="cannot be read"):
        find_calls({"trl"}, [path])


@pytest.mark.parametrize("call", find_model_calls(), ids=lambda call: call.where)
def test_models_take_what_is_handed_to_them(call):
    if call.target == "generate":
        config = transformers.GenerationConfig()
        known = named(Gemma3ForCausalLM.generate) | set(config.to_dict()) | named(Gemma3ForCausalLM.forward)
    else:
        # A backbone has no output layer, so it does not know `logits_to_keep`; no call hands it that.
        known = named(Gemma3ForCausalLM.forward if "logits_to_keep" in call.keywords else Gemma3Model.forward)
    assert set(call.keywords) <= known


def answer_as_unsloth(model, monkeypatch):
    """A model whose keys and values come and go as plain tuples, which keeps none while it trains and takes no single new token.

    unsloth's models read such a token against buffers of their own (test_unsloth.py); here it is an error.
    """
    forward = model.forward

    def answer(input_ids, past_key_values=None, use_cache=True, **given):
        pairs = past_key_values
        if pairs is not None:
            assert input_ids.shape[1] > 1, "a single token takes the way of the stateful buffers"
            pairs = DynamicCache([(layer.keys, layer.values) for layer in pairs.layers])
        output = forward(input_ids=input_ids, past_key_values=pairs, use_cache=use_cache and not model.training, **given)
        if output.past_key_values is not None:
            output.past_key_values = tuple((layer.keys, layer.values) for layer in output.past_key_values.layers)
        return output

    monkeypatch.setattr(model, "forward", answer)


def ask_everything(model, tokenizer):
    """Scores and lists by every way that reads from a cache: rows of several lengths, some of which end early; copies; tails."""
    rows = [tokenizer(text)["input_ids"] for text in ("dog, cat", "dog, a", "dog, trees", "dog, c")]
    seen, tokens = [], torch.arange(4 * 3 * 5).reshape(12, 5) % 90 + 300

    def pick(scores, ids, rows, step):
        seen.append(scores.clone())
        return tokens[torch.tensor(rows), step]

    lists = decode.continue_rows(
        model, tokenizer.pad_token_id, rows, pick=pick, ends=lambda row, new: len(new) > row % 3 + 1, max_new_tokens=5, copies=3
    )
    asked = [(tuple(rows[0]), [(300,), (301,), (302, 303), (304,)]), (tuple(rows[2]), [(305,), (306, 307, 308), (306, 309)])]
    scores = logprobs.score_tails(model, tokenizer.pad_token_id, asked, batch_tokens=60)
    return (
        lists,
        torch.cat([part.flatten() for part in seen]),
        torch.tensor(np.concatenate([np.concatenate(s) for s in scores])),
    )


def test_a_model_with_tuples_for_a_cache_answers_the_same(cfg, monkeypatch):
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=3)
    plain = ask_everything(model, tokenizer)
    answer_as_unsloth(model, monkeypatch)
    other = ask_everything(model, tokenizer)
    assert plain[0] == other[0] and len({len(new) for new in plain[0]}) == 3
    for ours, theirs in zip(other[1:], plain[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


# On a CPU the gradient is a product in bfloat16.
@pytest.mark.parametrize(
    ("place", "near", "apart"), [("_speed_head", 2**-12, 2**-6), ("_widen_head", 1e-4, 1e-4)], ids=["processor", "card"]
)
def test_logits_of_16_bit_weights_are_float32(cfg, monkeypatch, place, near, apart):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(load, "HEAD_ROWS", 100)
    model, _ = load.load_base(cfg.models["tiny"].model_copy(update={"dtype": "bfloat16"}), seed=3)
    getattr(load, place)(model)
    model.get_output_embeddings().weight.data *= 30  # logits as large as a real model's
    ids = torch.arange(20)[None] + 300
    logits = model(input_ids=ids).logits
    hidden = model.base_model(input_ids=ids).last_hidden_state
    exact = hidden.double() @ model.get_output_embeddings().weight.double().T
    assert hidden.dtype == torch.bfloat16 and logits.dtype == torch.float32 and exact.abs().max() > 5
    torch.testing.assert_close(logits.double(), exact, rtol=0, atol=near)
    assert (exact.bfloat16().double() - exact).abs().max() > 1e-3, "in 16 bits they would be off"
    # The same where a trainer narrows what it runs, and with the gradient of a plain product.
    head, slopes = model.get_output_embeddings(), []
    for read in (head, lambda rows: rows.float() @ head.weight.detach().float().T):
        rows = hidden.detach().clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=read is head):
            found = read(rows)
        (found * torch.linspace(-1, 1, found.shape[-1])).sum().backward()
        slopes.append((found.detach(), rows.grad))
    (ours, slope), (plain, expected) = slopes
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=near)
    assert (slope - expected).float().norm() < apart * expected.float().norm()


@pytest.mark.parametrize(
    ("flags", "onednn", "fits"),
    [({"avx512_f": True, "avx512_bf16": False}, True, False), ({"amx_bf16": True}, True, True), ({"bf16": True}, True, True),
     ({"bf16": True}, False, False)],
    ids=["emulated", "amx", "arm", "mac"],
)  # fmt: skip
def test_bfloat16_is_refused_where_a_processor_only_emulates_it(cfg, monkeypatch, flags, onednn, fits):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x", "cpu_name": "Some Processor", **flags})
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    narrow = cfg.models["tiny"].model_copy(update={"dtype": "bfloat16"})
    assert load.load_base(cfg.models["tiny"], seed=0)[0].dtype == torch.float32
    open_ = cfg.models["tiny"].model_copy(update={"dtype": "auto"})
    assert load.load_base(open_, seed=0)[0].dtype == (torch.bfloat16 if fits else torch.float32)
    assert load.hash_base(open_, seed=0) == load.hash_base(narrow if fits else cfg.models["tiny"], seed=0)
    if fits:
        assert load.load_base(narrow, seed=0)[0].dtype == torch.bfloat16
        assert load.describe_device("bfloat16").startswith("device cpu, bfloat16 ")
        return
    for ask in (lambda: load.load_base(narrow, seed=0), lambda: load.describe_device("bfloat16")):
        with pytest.raises(ModelError, match="dtype: bfloat16.*Some Processor.*set dtype: auto or float32 in the profile$"):
            ask()


def test_the_backbone_that_ppo_reads_is_told_to_keep_its_padding_mask(cfg):
    model, _ = load.load_base(cfg.models["tiny"], seed=0)
    preference.SharedBackbone(get_peft_model(model, sft.configure_lora(cfg.profile.lora)), None)
    assert model.base_model._unsloth_keep_padding_mask is True


@pytest.mark.parametrize(("dtype", "scaled"), [(torch.float16, True), (torch.bfloat16, False), (torch.float32, False)])
def test_preference_stages_scale_their_gradients_in_float16(cfg, tmp_path, monkeypatch, dtype, scaled):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.setattr(preference, "pick_device", lambda: (torch.device("cuda"), dtype, "a card"))
    with preference.scale_gradients():
        assert os.environ.get("ACCELERATE_MIXED_PRECISION") == ("fp16" if scaled else None)
    assert "ACCELERATE_MIXED_PRECISION" not in os.environ
    for given, inside in (("no", "fp16" if scaled else "no"), ("bf16", "bf16")):  # accelerate's launcher always sets it
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", given)
        with preference.scale_gradients():
            assert os.environ["ACCELERATE_MIXED_PRECISION"] == inside
        assert os.environ["ACCELERATE_MIXED_PRECISION"] == given


@pytest.mark.parametrize(("major", "dtype"), [(7, torch.float16), (8, torch.bfloat16)])
def test_a_card_that_only_emulates_bfloat16_trains_in_float16(monkeypatch, major, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(major=major))
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda _: True)
    assert torch.cuda.is_bf16_supported(), "torch counts emulation unless told not to"
    assert load.pick_device()[1] is dtype


def test_the_adapter_of_a_4_bit_model_is_float32(cfg, tmp_path):
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=0)
    model.is_loaded_in_4bit = True
    rows = Dataset.from_list([{"prompt": "a", "completion": " b"}])
    trainer = SFTTrainer(
        model=model, args=sft.configure_sft(cfg.profile.sft, tmp_path, steps=1, seed=1), processing_class=tokenizer, peft_config=sft.configure_lora(cfg.profile.lora),
        train_dataset=rows, eval_dataset=rows,
    )  # fmt: skip

    def dtypes():
        return {weights.dtype for weights in trainer.model.parameters() if weights.requires_grad}

    assert dtypes() == {torch.bfloat16}, "trl no longer narrows the adapter: sft.widen_adapter can go"
    model.is_loaded_in_4bit = False
    sft.widen_adapter(trainer)
    assert dtypes() == {torch.bfloat16}, "an adapter that trl made 16-bit for ZeRO-3 stays so"
    model.is_loaded_in_4bit = True
    sft.widen_adapter(trainer)
    assert dtypes() == {torch.float32}
