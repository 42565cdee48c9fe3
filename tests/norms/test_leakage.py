"""Leakage of a split, counted by hand."""

from pathlib import Path

import pandas as pd
import pytest

from align_utils.norms import split


@pytest.fixture
def norms():
    rows = [
        ("dog", "cat", 1), ("dog", "bone", 2), ("moon", "night", 1), ("moon", "sun", 2),
        ("cat", "Dog", 1), ("cat", "fur", 2), ("sun", "day", 1), ("moons", "sky", 1),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["cue", "response", "rank"])


def test_counted_by_hand(norms, english):
    cues = {"train": ["cat", "sun", "moons"], "valid": [], "test": ["dog", "moon"]}
    table = split.measure_leakage(norms, cues, english).set_index("leak")
    counts = {leak: (row["count"], row["of"]) for leak, row in table.iterrows()}
    assert counts == {
        "test cues that are training responses": (1, 2),  # dog, said to cat in another case
        "top-5 test pairs reversed in training": (1, 4),  # dog-cat; sun was never asked for moon
        "test cues with a variant that trains (case, inflection)": (1, 2),  # moons
    }
    assert table["low"].le(table["share"]).all() and table["high"].ge(table["share"]).all()
    one = split.measure_leakage(norms, cues, english, k=1).set_index("leak")
    assert (one.loc["top-1 test pairs reversed in training", ["count", "of"]] == [1, 2]).all()


def test_a_cue_in_the_other_script_is_a_variant(chinese):
    pytest.importorskip("opencc")
    rows = pd.DataFrame([("馬", "跑", 1), ("马", "跑", 1), ("书", "读", 1)], columns=["cue", "response", "rank"])
    table = split.measure_leakage(rows, {"train": ["馬"], "valid": [], "test": ["马", "书"]}, chinese).set_index("leak")
    assert table.loc["test cues with a variant that trains (case, inflection, script)", ["count", "of"]].tolist() == [1, 2]


def test_a_concept_that_trains_in_another_language_is_seen(cfg):
    splits = pd.DataFrame({"cue_en": ["dog", "sun"], "cue_zh": ["狗", "太阳"], "split": ["test", "test"]})
    people = {
        name: split.CultureNorms(pd.DataFrame(), {"train": cues}, Path()) for name, cues in (("us", ["cat"]), ("cn", ["狗"]))
    }
    assert split.measure_crossing(cfg, people, splits)[["count", "of"]].iloc[0].tolist() == [1, 2]
    people["cn"].cues["train"].clear()
    assert split.measure_crossing(cfg, people, splits)["count"].iloc[0] == 0
