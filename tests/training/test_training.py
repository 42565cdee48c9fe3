"""Training on the tiny model: contracts with trl and peft, the reward as trl sees it, resuming, reproducibility."""

import inspect
import shutil
import statistics
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from conftest import change, copy_project, prepare
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, GraniteConfig, GraniteForCausalLM
from trl import SFTTrainer

from align_utils import config
from align_utils.models import adapters, decode, load, prompts
from align_utils.store import steps
from align_utils.training import job, preference, reward, sft, train


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    cfg = config.load("smoke", root=copy_project(tmp_path_factory.mktemp("training")))
    return cfg, prepare(cfg)


@pytest.fixture(scope="module")
def adapter(project):
    cfg, people = project
    return train.train_stage(cfg, "tiny", "us", "sft", people)


def test_ppo_of_trl_still_asks_reward_and_critic_as_it_did():
    from trl.experimental.ppo import ppo_trainer as trl_ppo

    source = inspect.getsource(trl_ppo)
    assert "getattr(value_model, value_model.base_model_prefix)" in source
    assert "self.value_model.score(output.hidden_states[-1])" in source


def test_sft_learns_stores_and_is_not_trained_twice(project, adapter):
    cfg, people = project
    log = pd.read_csv(adapter / "log.csv")
    assert log["step"].tolist() == [0, 1, 2, 3, 4] and log["eval_loss"].iloc[-1] < log["eval_loss"].iloc[0]
    before = (adapter / "adapter_model.safetensors").stat().st_mtime_ns
    train.train_stage(cfg, "tiny", "us", "sft", people)
    assert (adapter / "adapter_model.safetensors").stat().st_mtime_ns == before
    assert not (adapter / "trainer").exists()


def test_an_example_that_would_be_cut_is_an_error(project):
    _, tokenizer = load.load_base(project[0].models["tiny"], seed=0)
    with pytest.raises(steps.TrainingError, match="sft.max_tokens"):
        sft.check_lengths(tokenizer, [{"prompt": "a" * 30, "completion": " b"}], 20)


def test_the_reward_module_finds_prompt_and_list_through_padding(project):
    from trl.experimental.utils import get_reward

    cfg, people = project
    english, (_, tokenizer) = cfg.languages["en"], load.load_base(cfg.models["tiny"], seed=0)
    strengths = {"dog": {"cat": 0.5, "bone": 0.2}, "sunset": {"red": 0.4}}
    asked = {tuple(tokenizer(prompts.build_list_prompt(english, cue))["input_ids"]): cue for cue in strengths}
    boundary = decode.find_boundary(tokenizer, english)
    module = preference.NormReward(tokenizer, asked, reward.ListReward(strengths, english, cfg.profile.ppo.reward), boundary)
    lists = {"dog": " cat, dog, moon\nbone", "sunset": " blue"}
    texts = [
        list(ids) + tokenizer(lists[cue], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        for ids, cue in asked.items()
    ]
    width = max(map(len, asked))
    rows = [[0] * (width - len(ids)) + text for ids, text in zip(asked, texts, strict=True)]
    longest = max(map(len, rows))
    batch = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    _, scores, _ = get_reward(module, batch, 0, width)
    expected = [reward.score_reward(["cat", "moon"], strengths["dog"], english, cfg.profile.ppo.reward), 0.0]
    assert scores.tolist() == pytest.approx(expected) and scores[0] > 0
    # What is earned up to a token: nothing before the first separator, the whole reward at the list's end and after it.
    earned = module.earn(batch, batch != 0)
    first = batch[0].tolist().index(boundary, width)
    assert (
        not earned[0, :first].any()
        and earned[:, -1].tolist() == pytest.approx(expected)
        and (earned[0, first:].diff() >= 0).all()
    )
    alike = reward.ListReward(strengths, english, cfg.profile.ppo.reward)
    assert alike.score_all(completions=list(lists.values()), cue=list(lists)) == pytest.approx(expected), (
        "as critic-free trainers ask"
    )
    assert alike.scored == module.reward.scored
    with pytest.raises(steps.TrainingError, match="not recognised"):
        get_reward(module, batch[:, width - 3 :], 0, 3)


def test_lists_end_at_their_last_response_and_stand_together_by_cue(project):
    cfg, people = project
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=0)
    english, k = cfg.languages["en"], cfg.profile.ppo.reward.k
    boundary = decode.find_boundary(tokenizer, english)
    rated = preference.NormReward(tokenizer, {}, reward.ListReward({}, english, cfg.profile.ppo.reward), boundary)
    texts = [", ".join("abcdefgh"), "a, b\nc, d, e, f, g", "a, b, c"]
    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts], batch_first=True, padding_value=tokenizer.pad_token_id
    )  # fmt: skip
    model.generate = lambda **given: SimpleNamespace(sequences=torch.cat([given["input_ids"], ids], dim=1), asked=given)
    preference.end_lists(model, rated)
    output = model.generate(input_ids=torch.full((3, 4), 9))
    kept = [
        tokenizer.decode([token for token in row[4:].tolist() if token != tokenizer.pad_token_id]) for row in output.sequences
    ]
    assert kept == [
        "a, b, c, d, e, "[: 3 * k].rstrip(" ") + " " * (boundary == tokenizer(" ", add_special_tokens=False)["input_ids"][-1]),
        "a, b\n",
        "a, b, c",
    ]
    (criterion,) = output.asked["stopping_criteria"]
    assert criterion(output.sequences, None).tolist() == [True, True, False]
    collate = preference._Repeat(tokenizer, samples=2)
    batch = collate([{"input_ids": [5, place]} for place in (6, 7, 8, 9)])["input_ids"]
    assert batch.tolist() == [[5, 6], [5, 6], [5, 7], [5, 7]]


def test_ppo_starts_at_the_sft_model_and_moves_only_the_policy(project, adapter):
    cfg, people = project
    folder = train.train_stage(cfg, "tiny", "us", "ppo", people)
    log = pd.read_csv(folder / "log.csv")
    assert log["update"].tolist() == [0, 1, 2] and log["chosen"].sum() == 1 and not log["chosen"].iloc[0]
    assert abs(log["kl"].iloc[1]) < 1e-4, "the reference is the SFT adapter"
    start, end = (load_file(path / "adapter_model.safetensors") for path in (adapter, folder))
    assert start.keys() == end.keys() and any(not torch.equal(start[name], end[name]) for name in start)
    again = steps.hash_file(folder / "adapter_model.safetensors")
    shutil.rmtree(folder)
    train.train_stage(cfg, "tiny", "us", "ppo", people)
    assert steps.hash_file(folder / "adapter_model.safetensors") == again, "same seed, same adapter"


def test_ppo_in_parts_takes_the_same_steps_with_the_same_episodes(project, adapter, monkeypatch):
    cfg, people = project
    # A stage that is stored already is none to be trained again, whatever the device takes at once.
    shutil.rmtree(adapters.find_adapter(cfg, "tiny", "us", "ppo"), ignore_errors=True)
    steps, widths, step, score = [], [], torch.optim.AdamW.step, preference.NormReward.backbone
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *args: (steps.append(1), step(self, *args))[1])
    monkeypatch.setattr(
        preference.NormReward,
        "backbone",
        lambda self, input_ids, **given: widths.append(len(input_ids)) or score(self, input_ids, **given),
    )
    folder = train.train_stage(change(cfg, ppo={"device_batch": 2}), "tiny", "us", "ppo", people)
    log, ppo = pd.read_csv(folder / "log.csv"), cfg.profile.ppo
    assert len(steps) == ppo.updates * ppo.epochs and widths == [2, 2] * ppo.updates and ppo.episodes == 4
    assert abs(log["kl"].iloc[1]) < 1e-4 and log[["reward", "precision", "reward_valid"]].iloc[1:].notna().all(axis=None)
    shutil.rmtree(folder)


@pytest.mark.parametrize(("changes", "message"), [
    ({"device_batch": 3}, "episodes 4 is not a multiple of device_batch 3"),
    ({"device_batch": 2, "minibatches": 2}, "leave minibatches at 1"),
])  # fmt: skip
def test_ppo_in_parts_refuses_what_would_change_its_steps(project, changes, message):
    settings = project[0].profile.ppo
    with pytest.raises(ValueError, match=message):
        type(settings).model_validate(settings.model_dump() | changes)


@pytest.mark.parametrize("stage_name", ["ppo", "grpo"])
def test_a_stage_ends_once_validation_has_not_risen_for_long_enough(project, adapter, monkeypatch, stage_name):
    cfg, people = project
    part = "ppo" if stage_name == "ppo" else "critic_free"
    cfg = change(cfg, **{part: {"updates": 6, "eval_every": 1, "patience": 2}})
    rising, measure = iter([0.1, 0.2, 0.3, 0.3, 0.1]), reward.ValidationReward.measure

    def pretend(self, update):
        measure(self, update)
        self.history[-1]["reward_valid"] = next(rising)
        return self.history[-1]["reward_valid"]

    monkeypatch.setattr(reward.ValidationReward, "measure", pretend)
    ended = []
    monkeypatch.setattr(job._Bar, "on_train_end", lambda self, *_, **__: ended.append(self.bar.n))
    folder = train.train_stage(cfg, "tiny", "us", stage_name, people)
    assert ended == [4], "the bar is closed at the last update"
    log = pd.read_csv(folder / "log.csv")
    assert log["update"].tolist() == [0, 1, 2, 3, 4], "the best at 2, no better at 3 and 4"
    assert log.loc[log["chosen"], "update"].tolist() == [2] and log["reward"].iloc[1:].notna().all()
    shutil.rmtree(folder)


def test_ppo_without_sft_names_the_notebook(project):
    cfg, people = project
    with pytest.raises(steps.MissingInput, match="02_sft"):
        train.train_stage(cfg, "tiny", "cn", "ppo", people)


def test_batched_lists_equal_single_ones(project):
    cfg, people = project
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=5)
    english, cues = cfg.languages["en"], ["dog", "a very long cue indeed", "sun"]
    asked = [prompts.build_list_prompt(english, cue) for cue in cues]
    asked, penalties = asked * 3, [penalty for penalty in (1.0, 1.15, 1.3) for _ in cues]
    together, alone = (decode.generate_texts(model, tokenizer, asked, penalties, max_new_tokens=12, batch=b) for b in (9, 1))
    plain = [
        model.generate(
            **tokenizer(text, return_tensors="pt"), do_sample=False, repetition_penalty=penalty, max_new_tokens=12,
            eos_token_id=decode.find_stop_tokens(tokenizer), pad_token_id=tokenizer.pad_token_id,
        )[0, len(tokenizer(text)["input_ids"]) :]
        for text, penalty in zip(asked, penalties, strict=True)
    ]  # fmt: skip
    assert together == alone == tokenizer.batch_decode(plain, skip_special_tokens=True)
    assert len(set(together)) > len(cues), "the penalties differ in effect"


@pytest.mark.parametrize("tokens", [1, 5, 40])
def test_fused_loss_equals_cross_entropy_with_its_gradient(monkeypatch, tokens):
    monkeypatch.setattr(sft, "ROWS", 30)  # 100 rows of vocabulary: four blocks, the last one short
    torch.manual_seed(tokens)
    weight, targets = torch.randn(100, 16) * 3, torch.randint(100, (tokens,))
    hidden = torch.randn(tokens, 16).mul(4).requires_grad_()
    expected = torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    (slope,) = torch.autograd.grad(expected / 7, hidden)
    fused = -sft.score_tokens(hidden, weight, targets)[0].sum()
    (fused / 7).backward()
    torch.testing.assert_close(fused, expected)
    torch.testing.assert_close(hidden.grad, slope)


def test_scored_tokens_are_log_softmax_with_entropy_and_gradient(monkeypatch):
    monkeypatch.setattr(sft, "ROWS", 30)
    torch.manual_seed(3)
    weight, targets, pull = torch.randn(100, 16) * 2, torch.randint(100, (7,)), torch.randn(7)
    hidden = torch.randn(7, 16).mul(3).requires_grad_()
    logs = torch.log_softmax(hidden @ weight.T, dim=-1)
    expected, entropy = logs.gather(1, targets[:, None]).squeeze(1), -(logs.exp() * logs).sum(1)
    (slope,) = torch.autograd.grad((expected * pull).sum(), hidden)
    found, entropies = sft.score_tokens(hidden, weight, targets, entropy=True)
    (found * pull).sum().backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(entropies, entropy)
    torch.testing.assert_close(hidden.grad, slope, rtol=1e-4, atol=1e-4)
    assert sft.score_tokens(hidden, weight, targets)[1] is None and not entropies.requires_grad


def test_bfloat16_weights_leave_adapter_loss_and_log_probabilities_in_float32(project, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    (cfg, people), folders = project, {}
    narrow = config.overlay_config(cfg, {"dtype": "bfloat16"}, source="here", runs=tmp_path)
    keys = [job.Job(one, "tiny", "us", "sft", people["us"], cfg.profile.seed).describe() for one in (cfg, narrow)]
    # Of float32 the key is the one from before there was a choice.
    assert keys[0]["base"] == f"tiny-{load.CONVERSION}-{cfg.profile.seed}"
    assert keys[1] == keys[0] | {"base": f"{keys[0]['base']}-bfloat16"}
    for one in (cfg, narrow):
        folders[one] = train.train_stage(one, "tiny", "us", "sft", people)
        train.train_stage(one, "tiny", "us", "ppo", people)
    for stage in ("sft", "ppo"):
        weights = load_file(adapters.find_adapter(narrow, "tiny", "us", stage) / "adapter_model.safetensors")
        assert {part.dtype for part in weights.values()} == {torch.float32}
        assert any(not torch.equal(part, part.bfloat16().float()) for part in weights.values()), "rounded on their way"
    wide, other = (pd.read_csv(folders[one] / "log.csv")["eval_loss"].dropna() for one in (cfg, narrow))
    # The loss of logits rounded to bfloat16 (8 bits) would lie on a grid.
    assert other.tolist() == pytest.approx(wide.tolist(), rel=2**-8) and other.tolist() != wide.tolist()
    assert all(float(torch.tensor(loss).bfloat16()) != loss for loss in other)
    model, _ = load.load_base(narrow.models["tiny"], seed=0)
    assert sft.pick_trainer(model) is sft.FusedTrainer
    hidden, weight = torch.randn(6, 32).bfloat16().mul(4).requires_grad_(), model.get_output_embeddings().weight
    targets = torch.arange(6)
    expected = torch.log_softmax(hidden.detach().double() @ weight.detach().double().T, dim=-1)
    found, entropies = sft.score_tokens(hidden, weight, targets, entropy=True)
    torch.testing.assert_close(found.double(), expected[range(6), targets], rtol=0, atol=2**-12)
    torch.testing.assert_close(entropies.double(), -(expected.exp() * expected).sum(1), rtol=0, atol=2**-12)
    found.sum().backward()
    torch.testing.assert_close(
        hidden.grad.double(), weight[targets].double() - expected.exp() @ weight.double(), rtol=2**-6, atol=1e-3
    )


def test_fused_trainer_takes_the_steps_of_trl(project, tmp_path, monkeypatch):
    cfg, people = project
    logs = []
    for number, trainer in enumerate((sft.FusedTrainer, SFTTrainer)):
        monkeypatch.setattr(sft, "pick_trainer", lambda _, trainer=trainer: trainer)
        monkeypatch.setattr(job, "find_adapter", lambda *_, number=number: tmp_path / str(number))
        logs.append(pd.read_csv(train.train_stage(cfg, "tiny", "us", "sft", people) / "log.csv"))
    pd.testing.assert_frame_equal(*logs, rtol=1e-4)


def test_models_whose_logits_are_changed_and_many_processes_keep_the_loss_of_trl(project, monkeypatch):
    model, _ = load.load_base(project[0].models["tiny"], seed=1)
    assert sft.pick_trainer(model) is sft.FusedTrainer
    monkeypatch.setattr(sft, "PartialState", lambda: SimpleNamespace(num_processes=2))
    assert sft.pick_trainer(model) is SFTTrainer
    monkeypatch.undo()
    model.config.final_logit_softcapping = 30.0
    assert sft.pick_trainer(model) is SFTTrainer


def test_a_model_that_scales_its_logits_keeps_the_loss_of_trl():
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = GraniteForCausalLM(GraniteConfig(**sizes, pad_token_id=0, bos_token_id=1, eos_token_id=2, logits_scaling=8.0))
    assert sft.pick_trainer(model) is SFTTrainer


@pytest.mark.parametrize("kind", sorted(sft.PLAIN))
def test_architectures_with_a_plain_head_have_one(kind):
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(1)
    settings = AutoConfig.for_model(
        kind, **sizes, num_key_value_heads=1, head_dim=8, pad_token_id=0, bos_token_id=1, eos_token_id=2
    )
    model, ids = AutoModelForCausalLM.from_config(settings).eval(), torch.arange(4)[None]
    assert sft.pick_trainer(model) is sft.FusedTrainer
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids).last_hidden_state
        torch.testing.assert_close(model(input_ids=ids).logits, hidden @ model.get_output_embeddings().weight.T)


def test_the_controls_of_the_table_are_those_that_are_trained(project, monkeypatch):
    cfg, people = project
    cfg = change(cfg, controls=["control_shuffled", "control_other_culture"])
    given = {}
    monkeypatch.setattr(train, "find_step", lambda *_: False)
    monkeypatch.setattr(train, "_train", lambda job, _: given.setdefault((job.culture, job.stage), job.own))
    monkeypatch.setattr(train, "note_made", lambda folder: folder)
    assert list(train.train_stages(cfg, people, train.list_sft_stages(cfg))) == [
        ("tiny", *cell, cfg.profile.seed) for cell in given
    ]
    table = train.summarise_sft_stages(cfg, people)
    assert list(zip(table["culture"], table["stage"], strict=True)) == list(given)
    drawn = cfg.profile.sft.steps * cfg.profile.sft.batch
    for row, part in zip(table.to_dict("records"), given.values(), strict=True):
        cues = part.cues["train"]
        lists = prompts.draw_lists(part.norms, cues, length=cfg.profile.sft.list_length, order="sampled", seed=0)
        expected = [len(cues), drawn / len(cues), statistics.median(map(len, lists))]
        assert [row[name] for name in ("training cues", "passes", "median list")] == pytest.approx(expected)
    kept = table.set_index(["culture", "stage"])
    assert (kept.xs("control_other_culture", level=1)["training cues"] < kept.xs("sft", level=1)["training cues"]).all()


def test_fast_head_is_the_output_layer(project):
    model, _ = load.load_base(project[0].models["tiny"], seed=1)
    weight = model.lm_head.weight
    for shape in ((2, 3), (load.FEW_ROWS, 2), (1, 0)):
        hidden = torch.randn(*shape, weight.shape[1])
        torch.testing.assert_close(model.lm_head(hidden), hidden @ weight.T)
