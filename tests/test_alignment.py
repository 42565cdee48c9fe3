"""Conditions of notebook 04 over the same cues."""

import pandas as pd
import pytest

from align_utils import alignment


def test_ratings_are_compared_over_the_cues_that_all_conditions_share(cfg, monkeypatch):
    scale = {"valence": pd.Series({"good": 8.0, "bad": 2.0})}
    monkeypatch.setattr(alignment.ratings, "load_ratings", lambda *_: (scale, [], {}))
    norms = pd.DataFrame({"cue": ["a", "b"], "response": ["good", "bad"], "strength": [1.0, 1.0]})
    stage = {"us": {"norms": norms, "cues": {"test": ["a", "b"]}}}
    rows = [("sft", "a", ["good"]), ("sft", "b", ["bad"]), ("ppo", "a", ["good"]), ("ppo", "b", ["unrated"])]
    rows += [("few_shot", "a", []), ("few_shot", "b", []), ("zero_shot", "a", []), ("zero_shot", "b", ["bad"])]
    lists = pd.DataFrame(rows, columns=["stage", "cue", "responses"]).assign(culture="us", model="tiny")
    rated, _, _ = alignment.rate_conditions(cfg, lists, stage)
    found = rated[rated["rating"] == "valence"].dropna(subset="value").set_index(["stage", "cue"])["value"].to_dict()
    # PPO has no rated response to b, so b counts for nobody; few-shot has none at all and takes nothing from the others.
    assert found == {("human", "a"): 8, ("sft", "a"): 8, ("ppo", "a"): 8}
    gaps = alignment.compare_ratings(cfg, rated, {("us", "a"): 0, ("us", "b"): 1}, [("ppo", "human")])
    assert gaps["n"].tolist() == [1] and gaps["value"].iloc[0] == pytest.approx(0)
