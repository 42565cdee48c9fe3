"""Several seeds: every seed's adapters are asked, and controls once."""

import json
import weakref
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import copy_project
from peft import PeftModel, get_peft_model

from align_utils import config
from align_utils.config.stages import list_trained
from align_utils.lexical import drawn, lists
from align_utils.models import adapters
from align_utils.models import load as models
from align_utils.models.adapters import find_adapter
from align_utils.norms import split, strengths
from align_utils.survey import answers, ask
from align_utils.survey import items as survey_items
from align_utils.training import train
from align_utils.training.sft import configure_lora

SECOND = 7


@pytest.fixture
def run(cfg, tmp_path):
    """Adapters of two seeds with weights drawn at random, as training leaves them."""
    root = copy_project(tmp_path)
    own = cfg.profile.critic_free.model_copy(update={"methods": []})
    asked = cfg.profile.survey.model_copy(update={"readouts": ["label", "generated"], "orders": "all", "sample_items": 2})
    profile = cfg.profile.model_copy(update={"critic_free": own, "controls": [], "survey": asked})
    one = config.Config(profile, root, cfg.data_dir)
    two = config.Config(profile.model_copy(update={"seeds": [SECOND]}), root, cfg.data_dir)
    number = 0
    for seed in two.seeds:
        for culture in one.cultures:
            for stage in ("sft", "ppo"):
                torch.manual_seed(number := number + 1)
                model, _ = models.load_base(one.models["tiny"], seed=one.profile.seed)
                tuned = get_peft_model(model, configure_lora(one.profile.lora))
                for name, weight in tuned.named_parameters():
                    if "lora_B" in name:
                        torch.nn.init.normal_(weight, std=0.5)
                folder = find_adapter(one, "tiny", culture, stage, seed)
                tuned.save_pretrained(folder)
                (folder / "step.json").write_text("{}")
    return one, two


def give_people(items, cultures=("us", "cn")):
    """SHARES of people who take every option equally often: no reading agrees with them."""
    rows = items.explode("codes")[["question", "codes"]].rename(columns={"codes": "code"}).astype({"code": int})
    rows["share"] = 1 / rows.groupby("question")["code"].transform("size")
    return pd.concat([rows.assign(culture=name) for name in cultures], ignore_index=True)


def test_every_seed_is_asked_and_what_is_stored_stays(run, monkeypatch):
    one, two = run
    monkeypatch.setattr(ask, "TAUGHT_HALVES", ())  # 05 teaches them; here they are not there
    items = survey_items.load_items(one.root / "data" / "survey").query("question in ['Q2', 'Q48', 'Q66']")
    ask.ask_survey(one, "tiny", items, give_people(items))
    before, written = answers.load_answers(one), answers.load_generated(one)
    steps = {path: path.read_bytes() for path in (one.runs / "steps" / "survey").rglob("*") if path.is_file()}
    states = [f"{culture}_{stage}" for culture in one.cultures for stage in ("sft", "ppo")]
    names = {f"tiny_{s}_chosen_label" for s in (*states, "none_persona")}
    assert {path.parent.name for path in steps} == names | {"tiny_none_zero_shot_label", "tiny_none_zero_shot_generated"}
    for path in steps:
        if path.name == "step.json":
            assert not {"seed", "seeds"} & set(json.loads(path.read_text())["settings"]), "the key of before"
    asked, plain = [], ask.ask_model
    monkeypatch.setattr(
        ask, "ask_model", lambda cfg, model, *a, **k: asked.append(model.active_adapter) or plain(cfg, model, *a, **k)
    )
    ask.ask_survey(two, "tiny", items, give_people(items))
    assert sorted(asked) == sorted(states), "the second seed's alone"
    assert {path: path.read_bytes() for path in steps} == steps
    every = answers.load_answers(two)
    pd.testing.assert_frame_equal(answers.pick_seed(two.profile.seed, every), before)
    pd.testing.assert_frame_equal(answers.load_generated(two), written)
    found = every.groupby("stage")["seed"].agg(set).to_dict()
    untuned = {key: {one.profile.seed} for key in ("zero_shot", "persona")}
    assert found == {**untuned, "sft": set(two.seeds), "ppo": set(two.seeds)}
    # The second seed's rows are the answers of the second seed's weights.
    model, tokenizer = models.load_base(one.models["tiny"], seed=one.profile.seed)
    tuned = PeftModel.from_pretrained(model, find_adapter(two, "tiny", "cn", "ppo", SECOND)).eval()
    scores = ask.score_labels(tuned, tokenizer, survey_items.list_questions(two, items), batch_tokens=400)
    mine = every.query("adapter == 'cn' and stage == 'ppo' and seed == @SECOND")
    assert mine["probability"].to_numpy() == pytest.approx(np.concatenate([s / s.sum() for s in scores]), abs=1e-5)
    other = every.query("adapter == 'cn' and stage == 'ppo' and seed != @SECOND")
    assert not np.allclose(mine["probability"], other["probability"], atol=1e-3)
    averaged = answers.average_orders(every)
    assert averaged.groupby([*answers.ANSWERER, "seed", "question"])["share"].sum().to_numpy() == pytest.approx(1)


def test_items_without_an_order_leave_what_is_stored_of_the_others(run, monkeypatch):
    one, _ = run
    monkeypatch.setattr(ask, "TAUGHT_HALVES", ())
    items = survey_items.load_items(one.root / "data" / "survey", choice="all", nominal=True)
    items = items.query("question in ['Q2', 'Q48', 'Q66', 'Q154']")
    ordered = items.query("kind == 'ordered'")
    ask.ask_survey(one, "tiny", ordered, give_people(ordered))
    before = answers.load_answers(one)
    steps = {path: path.read_bytes() for path in (one.runs / "steps" / "survey").rglob("*") if path.is_file()}
    ask.ask_survey(one, "tiny", items, give_people(items))
    assert {path: path.read_bytes() for path in steps} == steps
    # The place priors of the ordered items do not hang on the others.
    pd.testing.assert_frame_equal(answers.load_answers(one), before)
    every = answers.load_answers(one, nominal=True)
    asked = every[every["question"] == "Q154"].groupby([*answers.ANSWERER, "order"])["probability"].sum()
    assert len(asked) == 5 * 2 * 5 and asked.to_numpy() == pytest.approx(1), "answerers, languages, orders"


def test_one_model_is_in_memory_whatever_the_seeds(run, monkeypatch):
    _, two = run
    load, seen, alive = adapters.load_states, [], []

    def note(*given):
        alive.append(sum(model() is not None for model in seen))
        model, *rest = load(*given)
        seen.append(weakref.ref(model))
        return model, *rest

    monkeypatch.setattr(adapters, "load_states", note)
    state = ("us", "sft")
    steps = {seed: adapters.describe_step(two, "tiny", "one", state, version=1, adapter_seed=seed) for seed in two.seeds}
    made = []
    adapters.complete_steps(two, "tiny", adapters.Plan(steps, lambda seed, *_: made.append(seed), "d", "u", "r"))
    assert made == two.seeds and alive == [0, 0]


def test_controls_are_trained_and_asked_once(run, monkeypatch):
    _, two = run
    controls = ["control_shuffled", "control_other_culture", "control_foreign"]
    both = config.Config(two.profile.model_copy(update={"controls": controls}), two.root, two.data_dir)
    trained = []
    monkeypatch.setattr(train, "train_stage", lambda cfg, model, culture, stage, people, seed: trained.append((stage, seed)))
    train.train_stages(both, {}, [*list_trained(both)])
    split.split_run(both, strengths.load_norms(both))
    people = split.load_run(both)
    plans = [lists.plan_lists(both, "tiny", people), drawn.plan_draws(both, "tiny", people, drawn.describe_draw(both))]
    answered, sampled = ([key[1:] for key in plan.steps] for plan in plans)
    assert sorted(set(sampled)) == sorted([("few_shot", both.profile.seed), *product(("sft", "ppo"), both.seeds)]), (
        "of the lists drawn too"
    )
    for found in (trained, answered):
        seeds = {stage: {seed for name, seed in found if name == stage} for stage, _ in found}
        assert {"sft", "ppo", "control_shuffled", "sft_same_size"} <= set(seeds)
        assert all(own == (set(both.seeds) if stage in ("sft", "ppo") else {both.profile.seed}) for stage, own in seeds.items())
