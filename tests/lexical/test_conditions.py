"""Conditions of notebook 04: the ratings of people and stages over the cues they share."""

import pandas as pd
import pytest

from align_utils.lexical import bands, ratings, sentences
from align_utils.norms.split import CultureNorms
from align_utils.plots import lexical as lexical_plots


@pytest.fixture
def conditions(cfg):
    scales = {"us": {"valence": pd.Series({"good": 8.0, "bad": 2.0, "so": 5.0})}}
    frame = pd.DataFrame({"cue": list("abcd"), "response": ["good", "bad", "so", "zzz"], "strength": 1.0, "count": 3})
    people = {"us": CultureNorms(frame, {"test": list("abcd")}, cfg.root)}
    rows = [("sft", "a", ["good"]), ("sft", "b", ["good"]), ("sft", "c", ["zzz"]), ("sft", "d", ["bad"])]
    rows += [("ppo", "a", ["so"]), ("ppo", "b", ["zzz"]), ("ppo", "c", ["good"]), ("ppo", "d", ["good"])]
    rows += [("few_shot", cue, []) for cue in "abcd"]
    lists = pd.DataFrame(rows, columns=["stage", "cue", "responses"]).assign(culture="us", model="tiny")
    families = {("us", cue): number for number, cue in enumerate("abcd")}
    return lists, people, scales, families


def test_each_stage_counts_over_its_cues_with_people_and_each_pair_over_its_own(cfg, conditions, monkeypatch):
    monkeypatch.setattr(ratings, "RATING_CONTRASTS", (("ppo", "sft"), ("ppo", "human"), ("ppo", "few_shot")))
    lists, people, scales, families = conditions
    frame = ratings.rate_conditions(cfg, lists, people, scales)
    means = ratings.summarise_ratings(frame, families, **cfg.bootstrap).query("statistic == 'mean'").set_index("stage")
    # People have a, b, c. SFT has a, b, d: over a and b it is 8, people 5. PPO has a, c, d: over a and c 6.5, people 6.5.
    # One response a cue: people's five strongest are all of theirs.
    assert means.loc["human_top5", ["n", "value"]].tolist() == means.loc["human", ["n", "value"]].tolist()
    means = means.drop("human_top5")
    assert means["n"].to_dict() == {"human": 3, "sft": 2, "ppo": 2}
    assert means["value"].to_dict() == {"human": 5, "sft": 8, "ppo": 6.5} and means["human"].to_dict() == {
        "human": 5,
        "sft": 5,
        "ppo": 6.5,
    }
    assert means.loc["sft", ["cues", "empty", "exact", "unrated"]].tolist() == [4, 0, 0.75, 0.25]
    gaps = ratings.compare_ratings(frame, families, **cfg.bootstrap)
    # PPO and SFT both have a and d, d without people: 5 - 8 and 8 - 2.
    assert gaps["comparison"].tolist() == ["ppo - sft", "ppo - human"] and gaps["n"].tolist() == [2, 2]
    assert gaps["value"].tolist() == [1.5, 0.0] and gaps["median"].tolist() == [1.5, 0.0]


def test_a_run_without_any_ratings_gives_empty_tables_and_a_figure_that_says_so(cfg, conditions, monkeypatch):
    monkeypatch.setattr(ratings, "RATING_CONTRASTS", (("ppo", "sft"),))
    lists, people, _, families = conditions
    frame = ratings.rate_conditions(cfg, lists, people, {"us": {}})
    means = ratings.summarise_ratings(frame, families, **cfg.bootstrap)
    gaps = ratings.compare_ratings(frame, families, **cfg.bootstrap)
    table, reweighed = bands.band_ratings(cfg, lists, people, {"us": {}})
    level = ratings.judge_human_level(cfg, frame, people, families)
    assert all(part.empty for part in (means, gaps, table, reweighed, level)) and {"culture", "rating", "human"} <= set(means)
    assert sentences.record_ratings(cfg.cultures, means, gaps, level) == []
    assert sentences.state_ratings([], cfg).records == []
    figure = lexical_plots.plot_ratings(ratings.pair_with_people(frame).assign(culture=frame["label"]))
    assert "not measured" in figure.axes[0].texts[0].get_text()
    assert "no ratings" in lexical_plots.plot_rating_gaps(level).texts[0].get_text()


def test_metric_names_stay(cfg, conditions, monkeypatch):
    monkeypatch.setattr(ratings, "RATING_CONTRASTS", (("ppo", "sft"),))
    lists, people, scales, families = conditions
    frame = ratings.rate_conditions(cfg, lists, people, {"us": {**scales["us"], "concreteness": scales["us"]["valence"]}})
    means = ratings.summarise_ratings(frame, families, **cfg.bootstrap)
    gaps = ratings.compare_ratings(frame, families, **cfg.bootstrap)
    level = ratings.judge_human_level(cfg, frame, people, families)
    records = sentences.record_ratings(cfg.cultures, means, gaps, level)
    values = {(r["metric"], r.get("stage"), r.get("method")): r["value"] for r in records}
    assert values["concreteness_median", "sft", None] == 8 and values["valence_mean", "ppo", None] == 6.5
    assert values["human_level_difference", "sft", "valence"] == 3 and values["human_level_p", "ppo", "valence"] > 0.05
    assert values["valence_difference", None, "ppo - sft"] == values["concreteness_median_difference", None, "ppo - sft"] == 1.5
