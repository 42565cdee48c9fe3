"""Cue statistics and the comparison of strengths: hand-worked cases, and scipy, networks and loops as oracles."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy, pearsonr

from align_utils.norms import describe, strengths

ROWS = [
    ("dog", "cat", "bone", "leash"), ("dog", "cat", "bone", ""), ("dog", "wolf", "", ""), ("dog", "", "", ""),
    ("cat", "dog", "dog", "mouse"), ("cat", "mouse", "", ""),
]  # fmt: skip


def frame(rows):
    return pd.DataFrame(rows, columns=["cue", "R1", "R2", "R3"]).astype(str)


def test_statistics_worked_by_hand():
    table = describe.measure_cue_stats(frame(ROWS), "R123").set_index("cue")
    # dog: cat 2, bone 2, leash 1, wolf 1 of 6 tokens; cat is a cue. 4 trials: one unknown, one more without R2, one more without R3.
    assert table.loc["dog"].to_dict() == pytest.approx(
        {"coverage": 100 * 2 / 6, "H": 2 * np.log(3) / 3 + np.log(6) / 3, "unknown": 1, "xR2": 1, "xR3": 1, "N": 12}
    )
    assert table.loc["cat"].to_dict() == pytest.approx(
        {"coverage": 50.0, "H": np.log(2), "unknown": 0, "xR2": 1, "xR3": 0, "N": 6}
    )
    # as in the published file: given responses = N - 3 unknown - 2 xR2 - xR3
    tokens = table["N"] - 3 * table["unknown"] - 2 * table["xR2"] - table["xR3"]
    assert tokens.to_dict() == {"dog": 6, "cat": 4}
    first = describe.measure_cue_stats(frame(ROWS), "R1").set_index("cue")
    assert list(first.columns) == ["coverage", "H", "unknown", "N"]
    assert first.loc["dog"].to_dict() == pytest.approx({"coverage": 200 / 3, "H": entropy([2, 1]), "unknown": 1, "N": 4})


def test_a_cue_without_responses_has_no_coverage_and_no_entropy_and_one_uncovered_has_0():
    table = describe.measure_cue_stats(frame([("dog", "", "", ""), ("cat", "mouse", "", "")]), "R123").set_index("cue")
    assert table.loc["dog", ["coverage", "H"]].isna().all() and table.loc["dog", "unknown"] == 1
    assert table.loc["cat", ["coverage", "H"]].tolist() == [0.0, 0.0]


words = st.sampled_from(["dog", "cat", "tree", "", "leaf", "bark"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["dog", "cat", "tree"]), words, words, words), min_size=1, max_size=30))
def test_statistics_agree_with_scipy_and_a_loop(rows):
    table = describe.measure_cue_stats(frame(rows), "R123").set_index("cue")
    names = {row[0] for row in rows}
    assert list(table.index) == sorted(names)
    for name in names:
        given_words = [word for row in rows if row[0] == name for word in row[1:] if word]
        if given_words:
            counts = pd.Series(given_words).value_counts()
            assert table.loc[name, "H"] == pytest.approx(entropy(counts), abs=1e-12)
            assert table.loc[name, "coverage"] == pytest.approx(
                100 * sum(word in names for word in given_words) / len(given_words)
            )
        else:
            assert np.isnan(table.loc[name, "H"])


def make_strengths(language, *rows):
    table = pd.DataFrame([row for row in rows for _ in range(row[2])], columns=["cue", "R1", "count"])
    return strengths.build_strengths(table.assign(R2="", R3=""), language, "R1")


def test_comparison_worked_by_hand(english):
    theirs = make_strengths(
        english, ("dog", "cat", 4), ("dog", "Bone", 3), ("dog", "wolf", 1), ("tree", "leaf", 2), ("sun", "hot", 1)
    )
    ours = make_strengths(
        english, ("dog", "cat", 4), ("dog", "bone", 5), ("tree", "leaf", 2), ("tree", "bark", 2), ("moon", "sun", 9)
    )
    result = describe.compare_strengths(ours, theirs, english)
    # common cues dog and tree; pairs cat 4-4, bone 3-5, wolf 1-0, leaf 2-2
    assert result["cues"] == 2 and result["pairs"] == 4 and result["found"] == 0.75
    assert result["identical counts"] == 0.5 and result["largest difference"] == 2
    expected = pearsonr([4 / 8, 3 / 8, 1 / 8, 1.0], [4 / 9, 5 / 9, 0.0, 0.5]).statistic
    assert result["correlation"] == pytest.approx(expected)


def test_the_same_strengths_match_wholly(cfg):
    loaded = strengths.load_norms(cfg)
    table = describe.match_norms(cfg, loaded)
    assert table["culture"].tolist() == list(cfg.cultures) and (table["cues"] > 100).all()
    assert (table[["found", "identical counts"]] == 1).all(axis=None) and (table["largest difference"] == 0).all()
    broken = {name: replace(part, trials=part.trials.iloc[1:]) for name, part in loaded.items()}
    assert (describe.match_norms(cfg, broken)["identical counts"] < 1).all(), "one trial less is seen"


def test_described_by_culture():
    table = describe.describe_cues(
        {"x": describe.measure_cue_stats(frame(ROWS), "R123"), "y": describe.measure_cue_stats(frame(ROWS), "R1")}
    )
    assert table["culture"].tolist() == ["x", "y"] and table.loc[0, "coverage %"] == pytest.approx((100 / 3 + 50) / 2)
    assert np.isnan(table.loc[1, "xR2"]) and table.loc[0, "unknown"] == 0.5
