"""The reward as notebook 03 shows it: its five lines against the package, the records of drawn lists, and what is said of them."""

import json
import math

import pandas as pd
import pytest
from conftest import ROOT, copy_project, prepare

from align_utils import config
from align_utils.lexical import precision
from align_utils.training import reward, sentences, tables


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    cfg = config.load("smoke", root=copy_project(tmp_path_factory.mktemp("rewards")))
    return cfg, prepare(cfg)


@pytest.mark.parametrize("kind", ["best", "mixed", "none"])
@pytest.mark.parametrize("culture", ["us", "cn"])
def test_the_notebooks_own_lines_give_the_packages_reward(run, capsys, culture, kind):
    cfg, people = run
    cells = json.loads((ROOT / "notebooks" / "03_ppo.ipynb").read_text(encoding="utf-8"))["cells"]
    (source,) = ("".join(c["source"]) for c in cells if c["cell_type"] == "code" and "reward {reward:" in "".join(c["source"]))
    cue, language = people[culture].cues["test"][0], cfg.language_of(culture)
    norms = people[culture].norms[people[culture].norms["cue"] == cue]
    words = norms.sort_values("rank")["response"].tolist()
    first_five = {"best": words[:5], "mixed": [words[7].upper(), "zeppelin", words[2], "zz", words[0]], "none": list("qwxyz")}[
        kind
    ]
    given = {
        "cfg": cfg,
        "people": people,
        "culture": culture,
        "cue": cue,
        "k": 5,
        "spell": language.normalise,
        "first_five": first_five,
    }
    exec(source, given)
    judge = reward.ListReward(precision.map_strengths(norms, language), language, cfg.profile.ppo.reward)
    expected = judge.rate(cue, language.separator.join(first_five))
    assert given["reward"] == pytest.approx(expected) and f"reward {expected:.3f}" in capsys.readouterr().out
    assert {"best": expected == pytest.approx(1), "mixed": 0.3 < expected < 1, "none": expected == 0}[kind]


def test_records_pair_the_drawn_lists_by_cue(run, tmp_path):
    cfg, people = run
    cues = people["us"].cues["valid"][:4]
    # Two lists a cue, of the SFT model and of the third update: by hand, rewards of (precision + strength) / 2.
    before, after = [0.2, 0.4, 0.0, 0.2], [0.4, 0.4, 0.2, 0.6]
    lists = pd.DataFrame([
        {"cue": cue, "update": update, "precision": value + shift, "strength": value - shift}
        for update, values in ((0, before), (3, after)) for cue, value in zip(cues, values, strict=True) for shift in (0.0, 0.1)
    ])  # fmt: skip
    lists.to_parquet(tmp_path / "drawn.parquet")
    log = {"update": [0, 1, 3], "reward_valid": [0.2, math.nan, 0.4], "kl": [math.nan, 0.1, 0.3], "chosen": [False, None, True]}
    pd.DataFrame(log).to_csv(tmp_path / "log.csv", index=False)
    records = tables.record_rewards(cfg, {("tiny", "us", "ppo"): tmp_path})
    values = {(r["metric"], r["stage"]): r for r in records}
    assert values["ppo_reward_valid", "sft"]["value"] == pytest.approx(0.2)
    assert values["ppo_reward_valid", "ppo"]["value"] == pytest.approx(0.4)
    change = values["ppo_reward_change", "ppo"]
    assert change["value"] == pytest.approx(0.2) and change["n"] == 4 and 0 <= change["low"] < 0.2 < change["high"] <= 0.4
    assert values["ppo_kl", "ppo"]["value"] == 0.3
    other = tables.record_rewards(cfg, {("tiny", "us", "grpo"): tmp_path})
    assert {(r["metric"], r["stage"]) for r in other} == {
        ("preference_reward_valid", "grpo"), ("preference_reward_change", "grpo"), ("preference_kl", "grpo"),
    }  # fmt: skip


def reward_records(culture, stage, value, low, high):
    own = {"model": "tiny", "culture": culture}
    name = "ppo" if stage == "ppo" else "preference"
    return [
        {**own, "metric": f"{name}_reward_valid", "stage": "sft", "value": 0.3},
        {**own, "metric": f"{name}_reward_valid", "stage": stage, "value": 0.3 + value},
        {**own, "metric": f"{name}_reward_change", "stage": stage, "value": value, "low": low, "high": high},
        {**own, "metric": f"{name}_kl", "stage": stage, "value": 0.25},
    ]


@pytest.mark.parametrize(("change", "says"), [
    ((0.05, 0.03, 0.07), "PPO raises it for the United States"), ((-0.05, -0.07, -0.03), "PPO lowers it for the United States"),
    ((0.005, -0.01, 0.015), "PPO leaves it as it was for the United States"),
    ((0.03, -0.01, 0.07), "PPO is not shown to change it for the United States"),
])  # fmt: skip
def test_the_sentence_of_the_reward_follows_its_records(cfg, change, says):
    records = reward_records("us", "ppo", *change) + reward_records("cn", "ppo", 0.1, 0.05, 0.15)
    said = sentences.state_reward(records, cfg)
    assert says in said.text and "raises it for China, 0.300 to 0.400 (+0.100 [+0.050, +0.150]; KL 0.25)" in said.text
    assert said.records == records and "not trained" in sentences.state_reward([], cfg).text
    others = reward_records("us", "grpo", *change)
    assert says.replace("PPO", "GRPO") in sentences.state_methods(others, cfg).text
    assert "no method" in sentences.state_methods(records, cfg).text


def part_records(culture, **changes):
    start = {"different words a list": 5.0, "the five commonest words": 0.02, "different words over all lists": 0.8}
    return [
        {"metric": "drawn_part", "model": "tiny", "culture": culture, "stage": stage, "method": part, "value": value}
        for part, before in start.items()
        for stage, value in (("sft", before), ("ppo", changes.get(part.split()[-1], before)))
    ]


@pytest.mark.parametrize(("changes", "says", "never"), [
    ({"list": 4.0}, "may be gamed for the United States: lists hold fewer different words (5.00 to 4.00)", "price"),
    ({"words": 0.3}, "may be gamed for the United States: the five commonest words make up more of the lists (0.02 to 0.30)", "price"),
    ({"lists": 0.7}, "The price is variety: of all drawn words, those that differ fall from 80 % to 70 % for the United States", "may be"),
    ({"list": 4.8, "words": 0.05, "lists": 0.85}, "No sign of a gamed reward for the United States and China", "price"),
])  # fmt: skip
def test_the_sentence_of_a_gamed_reward_follows_its_records(cfg, changes, says, never):
    records = part_records("us", **changes) + part_records("cn")
    said = sentences.state_gaming(records, cfg)
    assert says in said.text and never not in said.text and "China: the lists are as long" in said.text
    assert len(said.records) == len(records) and "not trained" in sentences.state_gaming([], cfg).text
