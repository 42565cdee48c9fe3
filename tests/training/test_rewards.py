"""The reward as notebook 03 shows it: its five lines against the package, the records of drawn lists, and what is said of them."""

import json
import math

import pandas as pd
import pytest
from conftest import ROOT, copy_project, prepare
from conftest import change as change_settings

from align_utils import config
from align_utils.lexical import precision
from align_utils.plots import training as training_plots
from align_utils.store.page import Sentence
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
        {"cue": cue, "update": update, "precision": value + shift, "strength": value - shift, "frequent": update * shift}
        for update, values in ((0, before), (3, after)) for cue, value in zip(cues, values, strict=True) for shift in (0.0, 0.1)
    ])  # fmt: skip
    lists.to_parquet(tmp_path / "drawn.parquet")
    log = {"update": [0, 1, 3, 4], "reward_valid": [0.2, math.nan, 0.4, math.nan], "kl": [math.nan, 0.1, 0.3, 0.5],
           "chosen": [False, None, True, None]}  # fmt: skip
    pd.DataFrame(log).to_csv(tmp_path / "log.csv", index=False)
    records = tables.record_rewards(cfg, {("tiny", "us", "ppo", 3): tmp_path})
    values = {(r["metric"], r["stage"]): r for r in records}
    assert values["ppo_reward_valid", "sft"]["value"] == pytest.approx(0.2)
    assert values["ppo_reward_valid", "ppo"]["value"] == pytest.approx(0.4)
    change = values["ppo_reward_change", "ppo"]
    assert change["value"] == pytest.approx(0.2) and change["n"] == 4 and 0 <= change["low"] < 0.2 < change["high"] <= 0.4
    # A share of 0 before; of 0 and 0.3 in the two lists of each cue after.
    assert [values["ppo_commonest_change", "ppo"][end] for end in ("value", "low", "high")] == pytest.approx([0.15] * 3)
    assert values["ppo_kl", "ppo"]["value"] == 0.5, "the lists drawn after the chosen update are logged with the next"
    # A second training, whose lists after PPO earn 0.2 more.
    (tmp_path / "other").mkdir()
    gain = 0.2 * (lists["update"] > 0)
    more = lists.assign(precision=lists["precision"] + gain, strength=lists["strength"] + gain)
    more.to_parquet(tmp_path / "other" / "drawn.parquet")
    pd.DataFrame(log).assign(kl=0.7).to_csv(tmp_path / "other" / "log.csv", index=False)
    both = {("tiny", "us", "ppo", 3): tmp_path, ("tiny", "us", "ppo", 8): tmp_path / "other"}
    values = {(r["metric"], r["stage"]): r for r in tables.record_rewards(cfg, both)}
    change = values["ppo_reward_change", "ppo"]
    assert change["value"] == pytest.approx(0.3) and change["n"] == 4 and change["low"] < 0.2 and change["high"] > 0.4
    assert values["ppo_kl", "ppo"]["value"] == pytest.approx(0.6)
    pd.DataFrame(log).head(3).to_csv(tmp_path / "log.csv", index=False)
    *_, last = tables.record_rewards(cfg, {("tiny", "us", "ppo", 3): tmp_path})
    assert last["metric"] == "ppo_kl" and math.isnan(last["value"]), "none is drawn after the last update"
    other = tables.record_rewards(cfg, {("tiny", "us", "grpo", 3): tmp_path})
    assert {(r["metric"], r["stage"]) for r in other} == {
        ("preference_reward_valid", "grpo"), ("preference_reward_change", "grpo"), ("preference_commonest_change", "grpo"),
        ("preference_kl", "grpo"),
    }  # fmt: skip


def test_parts_are_means_over_trainings():
    parts = [f"{name}_valid" for name in tables.PARTS_SHOWN]
    log = pd.DataFrame({"update": [0, 1, 2], "kl": [math.nan, 0.1, 0.2], "chosen": [False, True, False]}).assign(
        model="m", culture="us"
    )
    logs = [
        log.assign(stage="ppo", seed=seed, **{part: [start, start + 0.2, 1.0] for part in parts})
        for seed, start in ((3, 0.1), (7, 0.3))
    ]
    found = tables.summarise_parts(pd.concat(logs)).set_index(["stage", "part"])["value"]
    assert (
        len(found) == 2 * len(parts)
        and found["sft"].to_numpy() == pytest.approx(0.2)
        and found["ppo"].to_numpy() == pytest.approx(0.4)
    )


def reward_records(culture, stage, value, low, high):
    own = {"model": "tiny", "culture": culture, "n": 48}
    name = "ppo" if stage == "ppo" else "preference"
    return [
        {**own, "metric": f"{name}_reward_valid", "stage": "sft", "value": 0.3},
        {**own, "metric": f"{name}_reward_valid", "stage": stage, "value": 0.3 + value},
        {**own, "metric": f"{name}_reward_change", "stage": stage, "value": value, "low": low, "high": high},
        {**own, "metric": f"{name}_kl", "stage": stage, "value": 0.25},
    ]


@pytest.mark.parametrize(("change", "says"), [
    ((0.05, 0.03, 0.07), "PPO raises the reward of lists drawn"), ((-0.05, -0.07, -0.03), "PPO lowers the reward of lists drawn"),
    ((0.005, -0.01, 0.015), "PPO leaves the reward of lists drawn for concepts that were not rewarded where it was, within 0.02: "),
    ((0.03, -0.01, 0.07), "The effect of PPO on the reward of lists drawn for concepts that were not rewarded is unclear with 48 concepts: "),
])  # fmt: skip
def test_the_sentence_of_the_reward_follows_its_records(cfg, change, says):
    records = reward_records("us", "ppo", *change) + reward_records("cn", "ppo", 0.1, 0.05, 0.15)
    said = sentences.state_reward(records, cfg)
    assert says in said.text and "from 0.300 to 0.400, +0.100 [+0.050, +0.150], at a KL of 0.25 (China)." in said.text
    assert said.text.count("PPO") == 1 + (change[0] != 0.05) and said.text.endswith(
        "04 judges it on concepts that chose nothing."
    )
    assert said.records == records and "not trained" in sentences.state_reward([], cfg).text
    once = change_settings(cfg, ppo={"eval_every": cfg.profile.ppo.updates})
    assert "chosen" not in sentences.state_reward(records, once).text, "of one checkpoint none is chosen"
    records[3]["value"] = math.nan
    assert sentences.state_reward(records, cfg).text.count("KL") == 1, "what was not measured is not told"
    others = reward_records("us", "grpo", *change)
    assert says.replace("PPO", "GRPO") in sentences.state_methods(others, cfg).text
    assert "no method" in sentences.state_methods(records, cfg).text


def part_records(culture, change, variety):
    own = {"model": "tiny", "culture": culture, "n": 48}
    parts = {"the five commonest words": (0.02, 0.02 + change[0]), "different words over all lists": (0.8, variety)}
    return [
        {**own, "metric": "drawn_part", "stage": stage, "method": part, "value": value}
        for part, values in parts.items()
        for stage, value in zip(("sft", "ppo"), values, strict=True)
    ] + [{**own, "metric": "ppo_commonest_change", "stage": "ppo", **dict(zip(("value", "low", "high"), change, strict=True))}]


@pytest.mark.parametrize(("change", "says"), [
    ((0.3, 0.2, 0.4), "The reward may be gamed: the five commonest words make up more of the lists, from 0.020 to 0.320, +0.300 [+0.200, +0.400] (United"),
    ((-0.1, -0.2, -0.06), "No sign of a gamed reward: the five commonest words make up less of the lists, from"),
    ((0.01, -0.01, 0.019), "The share of the five commonest words in the lists stays within 0.02 of what it was, so that any gaming of the reward is small: from"),
    ((0.04, -0.02, 0.1), "Whether the share of the five commonest words in the lists rises, as with a gamed reward, cannot be told from 48 concepts"),
])  # fmt: skip
@pytest.mark.parametrize("variety", [0.7, 0.76])
def test_the_sentence_of_a_gamed_reward_follows_its_records(cfg, change, says, variety):
    records = part_records("us", change, variety)
    said = sentences.state_gaming(records + part_records("cn", (0.2, 0.1, 0.3), 0.8), cfg)
    assert says in said.text and "from 0.020 to 0.220, +0.200 [+0.100, +0.300] (China)" in said.text
    price = f"of all words drawn, over all concepts, those that differ go from 80 % to {100 * variety:.0f} % (United States) and from 80 % to 80 % (China)."
    assert said.text.endswith(price) and len(said.records) == 10
    assert sentences.state_gaming([], cfg) == Sentence(
        "gaming", "No drawn lists before and after PPO to compare: a gamed reward would not show.", []
    )


def test_the_kl_stands_under_the_update_that_made_the_model():
    """As trl logs them, an update's reward and KL are of lists drawn before its step."""
    frame = pd.DataFrame({
        "culture": "x", "update": [0, 1, 2], "reward": [math.nan, 0.1, 0.2], "kl": [math.nan, 0.0, 0.4],
        "reward_valid": [0.3, 0.5, 0.4], "chosen": [False, True, False],
    })  # fmt: skip
    upper, lower = training_plots.plot_reward(frame).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for axes in (upper, lower) for line in axes.lines}
    assert drawn["KL"] == [[0, 0.0], [1, 0.4]] and drawn["sampled lists"] == [[0, 0.1], [1, 0.2]]
    assert drawn["validation cues"] == [[0, 0.3], [1, 0.5], [2, 0.4]] and drawn["chosen"] == [[1, 0.5]]
