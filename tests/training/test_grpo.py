"""GRPO and RLOO on the tiny model: the reference is the SFT adapter, the reward is PPO's, test cues are not read."""

import inspect
import math
import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from calls import find_calls
from conftest import change, copy_project, prepare
from safetensors.torch import load_file
from trl import GRPOTrainer, RLOOTrainer

from align_utils import config
from align_utils.config import settings as config_settings
from align_utils.config import stages
from align_utils.models import adapters, decode, load
from align_utils.models.adapters import find_adapter
from align_utils.plots import common as common_plots
from align_utils.plots import training as training_plots
from align_utils.store import steps
from align_utils.store.steps import TrainingError
from align_utils.training import grpo_trainers, job, preference, tables, train
from align_utils.training import reward as training_reward

METHODS = ("rloo", "grpo")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    cfg = config.load("smoke", root=copy_project(tmp_path_factory.mktemp("grpo")))
    free = cfg.profile.critic_free.model_copy(update={"learning_rate": 0.01})
    vars(cfg)["profile"] = cfg.profile.model_copy(update={"critic_free": free})
    people = prepare(cfg)
    train.train_stage(cfg, "tiny", "us", "sft", people)
    return cfg, people


class Seen(dict):
    """Cues of a culture that tell which parts were read."""

    read: ClassVar[set] = set()

    def __getitem__(self, name):
        Seen.read.add(name)
        return super().__getitem__(name)


def keep_trainer(monkeypatch):
    """The trainer that a stage makes, in a list that fills when it trains."""
    kept, train = [], GRPOTrainer.train

    def note(self, *args, **kwargs):
        kept.append(self)
        return train(self, *args, **kwargs)

    for trainer in (GRPOTrainer, RLOOTrainer):
        monkeypatch.setattr(trainer, "train", note, raising=False)
    return kept


@pytest.fixture
def lively(monkeypatch):
    """A reward that tells the random model's lists apart, whole (`score`) and in parts (`rate`); the real one is 0 for all of
    them, and nothing would move."""
    monkeypatch.setattr(training_reward, "score_reward", lambda words, *_: sum(map(ord, "".join(words))) % 20 / 20)


def flatten(model, adapter):
    return {
        name.replace(f".{adapter}.", "."): value.detach().clone()
        for name, value in model.named_parameters()
        if f".{adapter}." in name
    }


@pytest.mark.parametrize("method", METHODS)
def test_a_stage_starts_at_the_sft_model_and_keeps_it_as_reference(project, lively, monkeypatch, method):
    cfg, people = project
    kept = keep_trainer(monkeypatch)
    folder = train.train_stage(cfg, "tiny", "us", method, people)
    log = pd.read_csv(folder / "log.csv")
    assert log["update"].tolist() == [0, 1, 2] and log["chosen"].sum() == 1 and not log["chosen"].iloc[0]
    trained = log[log["update"] > 0]
    for name in ("reward", "kl", "entropy", "alike", "reward_valid", "precision", "strength", "length"):
        assert trained[name].map(math.isfinite).all(), name
    assert {f"{part}_valid" for part in training_reward.PARTS} | set(training_reward.PARTS) <= set(log.columns)
    assert abs(log["kl"].iloc[1]) < 1e-4 and abs(log["kl"].iloc[2]) > 1e-4, (
        "0 at first, then not: the policy moves, the reference not"
    )
    (trainer,) = kept
    start, end = (load_file(path / "adapter_model.safetensors") for path in (find_adapter(cfg, "tiny", "us", "sft"), folder))
    reference, policy = flatten(trainer.model, "ref"), flatten(trainer.model, "default")
    assert reference.keys() == policy.keys() and len(reference) == len(start) == len(end)
    for name, weights in start.items():
        (own,) = [value for key, value in reference.items() if key.endswith(name.removeprefix("base_model.model."))]
        assert torch.equal(own, weights), "the reference is the SFT adapter, after training too"
    assert any(not torch.equal(start[name], end[name]) for name in start)
    again = steps.hash_file(folder / "adapter_model.safetensors")
    shutil.rmtree(folder)
    train.train_stage(cfg, "tiny", "us", method, people)
    assert steps.hash_file(folder / "adapter_model.safetensors") == again, "same seed, same adapter"


@pytest.mark.parametrize("method", [*METHODS, "ppo"])
def test_the_adapter_of_a_quantised_model_stays_float32_and_is_trained_alike(project, lively, monkeypatch, method):
    # The mark of a 4-bit model alone, on float32 weights: what trl does because of it must leave no trace.
    cfg, people = project
    rounded, hashes, kept = [], [], preference.keep_adapter

    @contextmanager
    def keep(model):
        with kept(model):
            yield
            rounded.append({weights.dtype for weights in model.parameters() if weights.requires_grad})

    def load_marked(*args, **kwargs):
        model, tokenizer = load.load_base(*args, **kwargs)
        model.is_loaded_in_4bit = True
        return model, tokenizer

    monkeypatch.setattr(preference, "keep_adapter", keep)
    for loading in (load.load_base, load_marked):
        monkeypatch.setattr(train, "load_base", loading)
        shutil.rmtree(find_adapter(cfg, "tiny", "us", method), ignore_errors=True)
        path = train.train_stage(cfg, "tiny", "us", method, people) / "adapter_model.safetensors"
        assert {weights.dtype for weights in load_file(path).values()} == {torch.float32}
        hashes.append(steps.hash_file(path))
    assert hashes[0] == hashes[1]
    expected = [] if method == "ppo" else [{torch.float32}, {torch.bfloat16}]
    assert rounded == expected, "trl rounds it no longer: preference.keep_adapter can go"


def test_the_kl_is_that_to_the_sft_model_and_not_to_the_base(project, monkeypatch):
    # Without `ref` trl takes the model without adapters: the first KL is then far from 0, and this test would see it.
    cfg, people = project
    kept = []

    class Blind(grpo_trainers.GroupedRLOO):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.model.delete_adapter("ref")
            kept.append(self)

    monkeypatch.setattr(preference, "choose_trainer", lambda *_, **__: Blind)
    monkeypatch.setattr(
        job, "find_adapter", lambda *a: find_adapter(*a).with_name("blind") if a[3] == "rloo" else find_adapter(*a)
    )
    log = pd.read_csv(train.train_stage(cfg, "tiny", "us", "rloo", people) / "log.csv")
    assert kept and abs(log["kl"].iloc[1]) > 0.01


def test_test_cues_are_not_read_and_an_interrupted_stage_is_redone(project, monkeypatch):
    cfg, people = project
    folder = find_adapter(cfg, "tiny", "us", "rloo")
    shutil.rmtree(folder, ignore_errors=True)
    settings = job.Job(cfg, "tiny", "us", "rloo", people["us"], cfg.profile.seed).describe()
    cues = Seen(people["us"].cues)
    held = set(cues["test"])
    norms = people["us"].norms
    data = {"us": replace(people["us"], cues=cues, norms=norms[~norms["cue"].isin(held)])}
    judge, seen = training_reward.ValidationReward._judge, []

    def stop_at_the_second(self, update, **kwargs):
        judge(self, update, **kwargs)
        seen.append((update, set(self.cues)))
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training_reward.ValidationReward, "_judge", stop_at_the_second)
    Seen.read.clear()
    monkeypatch.setattr(job.Job, "describe", lambda _: settings)
    with pytest.raises(KeyboardInterrupt):
        train.train_stage(cfg, "tiny", "us", "rloo", data)
    assert not steps.find_step(folder, settings) and not folder.exists(), "an adapter was saved, the step is not finished"
    train.train_stage(cfg, "tiny", "us", "rloo", data)
    assert [update for update, _ in seen] == [1, 2, 1, 2] and steps.find_step(folder, settings)
    assert Seen.read == {"train", "valid"}
    assert all(asked == set(people["us"].cues["valid"]) and not asked & held for _, asked in seen)


@pytest.mark.parametrize("method", [*METHODS, "ppo"])
def test_the_sft_models_own_reward_is_measured_under_the_autocast_of_the_later_ones(project, monkeypatch, method):
    # On a float16 card accelerate narrows the passes of a model that a trainer has prepared; bfloat16 on a CPU stands in for it.
    cfg, people = project
    narrowed, generate = [], training_reward.sample_lists

    def note(model, *args, **kwargs):
        kinds = set()
        layer = next(module for name, module in model.named_modules() if name.endswith("q_proj"))
        hook = layer.register_forward_hook(lambda *_: kinds.add(torch.is_autocast_enabled("cpu")))
        lists = generate(model, *args, **kwargs)
        hook.remove()
        narrowed.append(kinds)
        return lists

    monkeypatch.setattr(training_reward, "sample_lists", note)
    monkeypatch.setattr(
        job, "find_adapter", lambda *a: find_adapter(*a).with_name("narrow") if a[3] == method else find_adapter(*a)
    )  # fmt: skip
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    AcceleratorState._reset_state()
    try:
        train.train_stage(cfg, "tiny", "us", method, people)
    finally:
        AcceleratorState._reset_state()
    assert len(narrowed) > 1 and all(kinds == narrowed[-1] for kinds in narrowed), narrowed
    if method != "ppo":  # trl prepares policy and critic as one module: the policy by itself is never narrowed
        assert narrowed[-1] == {True}, "nothing was narrowed: this test sees nothing"


@pytest.mark.parametrize("method", METHODS)
def test_lists_and_their_log_likelihoods_are_those_of_trl(project, tmp_path, monkeypatch, method):
    cfg, people = project
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=2)
    policy = adapters.attach_adapter(model, find_adapter(cfg, "tiny", "us", "sft"), "default", trainable=True)
    reward = training_reward.ListReward({"dog": {"cat": 0.5}}, cfg.languages["en"], cfg.profile.ppo.reward)
    rows = [{"prompt": text, "cue": "dog"} for text in ("dog:", "a much longer prompt:")]
    warm = change(cfg, critic_free={"temperature": 0.7})
    trainer = grpo_trainers.choose_trainer(method)(
        model=policy, reward_funcs=reward.score_all, args=preference.configure_critic_free(warm.profile.critic_free, method, tmp_path, 1),
        processing_class=tokenizer, train_dataset=preference.Dataset.from_list(rows),
    )  # fmt: skip
    asked = [tokenizer(row["prompt"])["input_ids"] for row in rows for _ in range(4)]
    drawn = trainer._draw_groups(asked)
    stops = set(decode.find_stop_tokens(tokenizer))
    assert len(drawn) == 8 and len({tuple(row) for row in drawn}) > 4
    assert all(not stops & set(row[:-1]) and (row[-1] in stops or len(row) == 8) for row in drawn)
    with pytest.raises(TrainingError, match="of a cue together"):
        trainer._draw_groups(asked[1:] + asked[:1])
    drawn = trainer._draw_groups(asked)
    # Lists of different lengths, prompts padded on the left.
    width = max(map(len, asked))
    ids = torch.tensor([[0] * (width - len(a)) + a + d + [0] * (8 - len(d)) for a, d in zip(asked, drawn, strict=True)])
    mask = torch.tensor(
        [[0] * (width - len(a)) + [1] * (len(a) + len(d)) + [0] * (8 - len(d)) for a, d in zip(asked, drawn, strict=True)]
    )
    kept = mask[:, -8:].bool()
    with torch.no_grad():
        (own, *_), (theirs, *_) = (
            owner._get_per_token_logps_and_entropies(trainer, policy, ids, mask, 8)
            for owner in (type(trainer), type(trainer).__mro__[2])
        )
    torch.testing.assert_close(own[kept], theirs[kept], rtol=1e-4, atol=1e-5)
    slopes, found = [], []
    for owner in (type(trainer), type(trainer).__mro__[2]):
        logs, entropies, _ = owner._get_per_token_logps_and_entropies(
            trainer, policy, ids, mask, 8, batch_size=3, compute_entropy=True
        )
        policy.zero_grad()
        (logs * kept * torch.arange(1, 9)).sum().backward()
        slopes.append({name: weights.grad.clone() for name, weights in policy.named_parameters() if weights.grad is not None})
        found.append((logs[kept].detach(), entropies[kept]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-5)
    assert slopes[0] and type(trainer).__mro__[2] in (GRPOTrainer, RLOOTrainer)
    # Where the output layer is not our own, trl's way is taken, with logarithms of float32 however narrow the logits are.
    monkeypatch.setattr(grpo_trainers, "has_plain_head", lambda _: False)
    rounded = policy.get_base_model().get_output_embeddings().register_forward_hook(lambda _, __, logits: logits.bfloat16())
    with torch.no_grad():
        wide, *_ = trainer._get_per_token_logps_and_entropies(policy, ids, mask, 8)
    rounded.remove()
    assert wide.dtype == torch.float32 and not torch.equal(wide[kept], wide[kept].bfloat16().float())
    torch.testing.assert_close(wide[kept], theirs[kept], rtol=0, atol=0.05)


def test_each_response_is_credited_with_what_it_adds(project, tmp_path, monkeypatch):
    # Two cues, and words that are right for one of them alone: a group compared with the other's lists would show.
    cfg, _ = project
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=2)
    policy = adapters.attach_adapter(model, find_adapter(cfg, "tiny", "us", "sft"), "default", trainable=True)
    language, parts = cfg.languages["en"], cfg.profile.ppo.reward.model_copy(update={"k": 3, "precision": 0.5, "strength": 0.5})
    strengths = {"dog": {"cat": 0.4, "bone": 0.1, "paw": 0.5}, "sun": {"moon": 0.4, "day": 0.1}}
    reward = training_reward.ListReward(strengths, language, parts)
    boundary = decode.find_boundary(tokenizer, language)
    trainer = grpo_trainers.choose_trainer("grpo", credit="response")(
        model=policy, reward_funcs=reward.score_all, processing_class=tokenizer,
        args=preference.configure_critic_free(cfg.profile.critic_free, "grpo", tmp_path, 1), train_dataset=preference.Dataset.from_list([{"prompt": f"{cue}:", "cue": cue} for cue in strengths]),
    )  # fmt: skip
    trainer.reward, trainer.boundary = reward, boundary
    lists = [
        "cat, moon, bone, ",
        "cat, cat, dog, ",
        "moon, paw\n",
        "bone, ",
        "moon, cat, day, ",
        "day\n",
        "moon, day\n",
        "cat, ",
    ]
    cues = ["dog"] * 4 + ["sun"] * 4
    drawn = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in lists]
    # By hand: a hit adds 1/2 of 1/3, and half its share of the strongest three, which sum to 1 for the dog and to 1/2 for the sun.
    cat, bone, paw, moon, day = 1 / 6 + 0.2, 1 / 6 + 0.05, 1 / 6 + 0.25, 1 / 6 + 0.4, 1 / 6 + 0.1
    gains = [[cat, 0, bone], [cat, 0, 0], [0, paw], [bone], [moon, 0, day], [day], [moon, day], [0]]
    for cue, text, tokens, expected in zip(cues, lists, drawn, gains, strict=True):
        found, ends = training_reward.measure_gains(reward, tokenizer, boundary, cue, tokens)
        assert ends[-1] == len(tokens) and all(tokens[end - 1] == boundary for end in ends[:-1])
        assert found == pytest.approx(expected) and sum(found) == pytest.approx(reward.rate(cue, text))
    assert trainer._is_over(drawn[0], set()) and not trainer._is_over(drawn[0][:-1], set()), "ends after the third response"
    first, second = (cat + 0 + bone) / 3, (0 + paw) / 2
    apart = [
        [cat - first, 0 - second, bone], [cat - first, 0 - second, -bone], [0 - (2 * cat + bone) / 3, paw], [bone - 2 * cat / 3],
        [moon - (day + moon) / 3, 0 - day, 0], [day - 2 * moon / 3], [moon - (moon + day) / 3, day], [0 - (2 * moon + day) / 3],
    ]  # fmt: skip
    monkeypatch.setattr(trainer, "_draw_groups", lambda asked: drawn)
    trainer._drawn = [0.0] * sum(map(len, drawn))
    output = trainer._generate_and_score_completions([{"prompt": f"{cue}:", "cue": cue} for cue in cues])
    # One spread for both groups. The sun's "day" at the third place stands alone: it is compared with nothing and does not count.
    scale = (sum(value**2 for row in apart for value in row) / (sum(map(len, apart)) - 1)) ** 0.5
    for text, row, mask, expected in zip(lists, output["advantages"], output["completion_mask"], apart, strict=True):
        responses = [response for response in text.split(" ") if response]
        by_hand = [value / scale for value, response in zip(expected, responses, strict=True) for _ in f"{response} "]
        torch.testing.assert_close(row[mask.bool()], torch.tensor(by_hand[: len(text)]))
        assert not row[~mask.bool()].any()


def test_a_place_is_compared_within_its_group_and_scaled_over_all():
    # Differences 0.2, -0.2 and 0.4, -0.4: their root mean square is sqrt(0.1). The 0.1 at the second place has no counterpart.
    found = grpo_trainers.compare_places([[0.2, 0.1], [0.0], [0.5], [0.1]], 2)
    expected = [[0.2, 0], [-0.2, 0], [0.4, 0], [-0.4, 0]]
    assert found == pytest.approx(torch.tensor(expected).double().numpy() / math.sqrt(0.1))


def test_credit_by_response_trains_another_adapter_and_needs_one_process(project, lively, monkeypatch):
    cfg, people = project
    compare, advantages = grpo_trainers.compare_places, []

    def note(*given):
        advantages.append(compare(*given))
        return advantages[-1]

    monkeypatch.setattr(grpo_trainers, "compare_places", note)
    free = cfg.profile.critic_free.model_copy(update={"credit": "response"})
    other = cfg.profile.model_copy(update={"critic_free": free})
    whole = steps.hash_file(train.train_stage(cfg, "tiny", "us", "grpo", people) / "adapter_model.safetensors")
    monkeypatch.setitem(vars(cfg), "profile", other)
    folder = train.train_stage(cfg, "tiny", "us", "grpo", people)
    single = steps.hash_file(folder / "adapter_model.safetensors")
    assert single != whole
    assert len(advantages) == free.updates and all(abs(found).max() > 0.1 for found in advantages)
    start, end = (load_file(path / "adapter_model.safetensors") for path in (find_adapter(cfg, "tiny", "us", "sft"), folder))
    assert any(not torch.equal(start[name], end[name]) for name in start), (
        "what is not credited leaves the SFT adapter as it was"
    )
    shutil.rmtree(folder)
    train.train_stage(cfg, "tiny", "us", "grpo", people)
    assert steps.hash_file(folder / "adapter_model.safetensors") == single
    monkeypatch.setattr(grpo_trainers, "PartialState", lambda: type("Two", (), {"num_processes": 2}))
    with pytest.raises(TrainingError, match=r"critic_free\.credit.*one process"):
        grpo_trainers.choose_trainer("grpo", credit="response")


def test_parts_of_a_list_tell_duplicates_copies_and_prose_apart(project):
    cfg, english = project[0], project[0].languages["en"]
    human = {"dog": {"cat": 0.5, "bone": 0.25}}
    reward = training_reward.ListReward(human, english, cfg.profile.ppo.reward, taught={"dog": {"cat": 0.5}})

    def describe(text):
        return reward.describe("dog", text)

    wasteful = describe(" cat, Cat, dog, bone\nmore, words")
    assert {name: wasteful[name] for name in ("length", "duplicates", "copies", "listed", "frequent")} == {
        "length": 2, "duplicates": 0.25, "copies": 0.25, "listed": 1.0, "frequent": 0.5,
    }  # fmt: skip
    assert describe(" people often think of cats")["listed"] == 0.0 == describe("")["listed"]
    assert np.isnan(describe("")["duplicates"]) and np.isnan(describe("")["copies"])
    assert set(wasteful) == set(training_reward.PARTS)


def test_methods_of_the_settings_are_those_that_run_and_what_they_lack_is_named(project):
    cfg, people = project
    allowed = config_settings.CriticFree.model_fields["methods"].annotation.__args__[0].__args__
    assert {*allowed, "ppo"} == set(stages.PREFERENCE)
    with pytest.raises(steps.MissingInput, match="02_sft"):
        train.train_stage(cfg, "tiny", "cn", "grpo", people)
    few = {"us": replace(people["us"], cues=people["us"].cues | {"train": people["us"].cues["train"][:1]})}
    with pytest.raises(TrainingError, match=r"1 training cues, fewer than critic_free\.cues = 2"):
        train.train_stage(cfg, "tiny", "us", "grpo", few)


def test_trl_still_has_what_is_overridden():
    (call,) = [call for call in find_calls({"trl"}) if call.target == "trl.GRPOTrainer"]
    assert set(call.keywords) <= set(inspect.signature(RLOOTrainer.__init__).parameters), "both trainers are called alike"
    for ours, theirs in ((grpo_trainers.GroupedGRPO, GRPOTrainer), (grpo_trainers.GroupedRLOO, RLOOTrainer)):
        for name in ("_generate_single_turn", "_get_per_token_logps_and_entropies"):
            own, other = (list(inspect.signature(getattr(kind, name)).parameters) for kind in (ours, theirs))
            assert own[: len(other)][:7] == other[:7], f"{theirs.__name__}.{name} takes other arguments now"
        # The reference: a copy of `default` under the name `ref`.
        source = inspect.getsource(inspect.getmodule(theirs))
        assert 'model.add_adapter("ref", default_config)' in source
        assert 'adapter_name="ref" if "ref" in model.peft_config' in source


def test_methods_are_compared_at_their_chosen_checkpoints(tmp_path):
    nan = float("nan")
    ppo = {
        "update": [0, 1, 2], "reward": [nan, 0.2, 0.3], "kl": [nan, 0.0, 0.4], "reward_valid": [0.3, 0.4, 0.35],
        "chosen": [False, True, False], "length_valid": [7.0, 5.0, 6.0], "duplicates_valid": [0.1, 0.0, 0.0],
        "copies_valid": [0.0, 0.0, 0.0], "listed_valid": [1.0, 1.0, 1.0], "frequent_valid": [0.2, 0.5, 0.3],
        "variety_valid": [0.8, 0.7, 0.6],
    }  # fmt: skip
    rloo = ppo | {"reward_valid": [0.3, 0.3, 0.5], "chosen": [False, False, True]}
    logs = pd.concat([pd.DataFrame(ppo).assign(stage="ppo"), pd.DataFrame(rloo).assign(stage="rloo")], ignore_index=True)
    logs = logs.assign(model="m", culture="us", seed=3)
    table = tables.compare_methods(logs).set_index("stage")
    assert table.index.tolist() == ["sft", "ppo", "rloo"] and table["gain"].round(9).tolist() == [0, 0.1, 0.2]
    # PPO's own KL is that of the lists sampled after the chosen update; RLOO's last update has none after it.
    assert table["KL"].tolist()[:2] == [0, 0.4] and pd.isna(table["KL"].iloc[2]) and table["length"].tolist() == [7, 5, 6]
    assert table[["frequent", "variety", "duplicates"]].values.T.tolist() == [[0.2, 0.5, 0.3], [0.8, 0.7, 0.6], [0.1, 0.0, 0.0]]
    assert table["note"].tolist() == ["", "", ""]
    level = logs.assign(reward_valid=logs["reward_valid"].where(logs["update"] == 0, 0.3))
    assert tables.compare_methods(level)["note"].tolist() == ["", *["no gain over SFT on validation"] * 2]
    pd.DataFrame({"update": [1, 2], "seconds": [40.0, 20.0]}).to_csv(tmp_path / "times.csv", index=False)
    assert tables.sum_times({("m", "us", "rloo", 3): tmp_path}).values.tolist() == [["m", "us", "rloo", 3, 2, 30.0, 1.0]]
    figure = training_plots.plot_methods(logs)
    top = figure.axes[0]
    lines = {line.get_label(): line for line in top.get_lines()}
    assert lines["after RLOO"].get_ydata().tolist() == [0.3, 0.3, 0.5] and lines["after SFT"].get_ydata()[0] == 0.3
    assert lines["after RLOO"].get_color() == common_plots.pick_colour("rloo") != lines["after PPO"].get_color()
    rings = [line.get_xdata().tolist() for line in top.get_lines() if line.get_markersize() == 9]
    assert rings == [[1], [2]] and len(figure.axes) == 2
    way = {line.get_label(): line.get_xydata().tolist() for line in training_plots.plot_frontier(logs).axes[0].lines}
    assert way["after PPO"] == [[0, 0.3], [0.4, 0.4]] and way["after RLOO"] == [[0, 0.3], [0.4, 0.3]], (
        "reward by KL of the same update"
    )


def test_contrasts_name_the_methods_and_controls_of_the_profile(project):
    cfg, controls = project[0], ["control_shuffled", "control_other_culture", "control_foreign"]
    assert stages.list_contrasts(cfg)[3:6] == [("rloo", "few_shot"), ("rloo", "sft"), ("rloo", "ppo")]
    plain = change(cfg, controls=controls, critic_free={"methods": []})
    assert stages.list_contrasts(plain) == [
        ("sft", "few_shot"), ("ppo", "few_shot"), ("ppo", "sft"), *(("sft", name) for name in controls),
        ("sft_same_size", "control_other_culture"),
        ("control_other_culture", "few_shot"), ("control_foreign", "few_shot"),
    ]  # fmt: skip
