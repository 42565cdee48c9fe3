"""Cue statistics, match of strengths, types, set size, entropy and direction: hand-worked cases, scipy, and samples counted out."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy, pearsonr

from align_utils import config
from align_utils.norms import describe, strengths


def build(**cues):
    """Norms with one response w0, w1, ... a count."""
    rows = [(cue, f"w{i}", count, sum(counts)) for cue, counts in cues.items() for i, count in enumerate(counts)]
    return pd.DataFrame(rows, columns=["cue", "response", "count", "n"])


def measure(counts, tokens=1):
    return describe.measure_cues(build(cue=counts), tokens=tokens).iloc[0]


counts_of = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(counts_of)
def test_entropy_agrees_with_scipy_and_cutting_a_list_lowers_it(counts):
    whole = measure(counts)
    assert whole["entropy"] == pytest.approx(entropy(counts, base=2), abs=1e-12)
    assert (whole["set_size"], whole["set_size_2"]) == (len(counts), sum(count > 1 for count in counts))
    if len(counts) > 1:
        assert whole["evenness"] == pytest.approx(entropy(counts, base=len(counts)))
        cut = measure(sorted(counts)[1:])
        assert cut["entropy"] <= whole["entropy"] + 1e-12 and cut["set_size"] < whole["set_size"]
    else:
        assert np.isnan(whole["evenness"])


def test_rarefying_agrees_with_every_sample_counted_out():
    counts, tokens = [4, 2, 1, 1], 3
    words = np.repeat(range(4), counts)
    samples = [np.bincount(words[list(chosen)]) for chosen in combinations(range(8), tokens)]
    row = measure(counts, tokens)
    assert row["rarefied_set_size"] == pytest.approx(np.mean([np.sum(sample > 0) for sample in samples]))
    assert row["rarefied_set_size_2"] == pytest.approx(np.mean([np.sum(sample > 1) for sample in samples]))
    assert row["rarefied_entropy"] == pytest.approx(np.mean([entropy(sample, base=2) for sample in samples]))


def test_rarefying_to_all_tokens_changes_nothing_and_beyond_them_is_unknown():
    both = describe.measure_cues(build(many=[5, 3, 1], few=[1, 1]), tokens=9).set_index("cue")
    many = both.loc["many"]
    assert many["rarefied_set_size"] == pytest.approx(3) and many["rarefied_entropy"] == pytest.approx(many["entropy"])
    assert both.loc["few", ["rarefied_set_size", "rarefied_entropy"]].isna().all() and both.loc["few", "set_size"] == 2


def test_tokens_are_chosen_so_that_the_stated_share_of_every_culture_has_them():
    first, second = build(**{f"c{i}": [i] for i in range(1, 101)}), build(**{f"c{i}": [i + 50] for i in range(1, 101)})
    tokens = describe.choose_tokens([first, second])
    assert tokens == 6 and (first.groupby("cue")["count"].sum() >= tokens).mean() == 0.95


def test_types_and_tokens_by_hand_and_at_equal_tokens():
    small = build(a=[2, 1], b=[1])  # w0 three times, w1 once
    large = build(a=[1, 1, 1, 1, 1, 1])
    table = describe.count_types({"us": small, "cn": large}).set_index("culture")
    assert table.loc["us", ["cues", "tokens", "types", "type_token", "hapax"]].tolist() == [2, 4, 2, 0.5, 0.5]
    assert table.loc["us", "types_at_equal_tokens"] == pytest.approx(2) and table.loc["us", "listed"] == 1
    assert table.loc["cn", "types_at_equal_tokens"] == pytest.approx(4), "six different ones, four drawn"


def test_whole_lists_are_preferred_to_cut_ones(english):
    whole = build(dog=[3, 1])
    cut = whole.head(1)
    trials = pd.DataFrame({"cue": ["dog"] * 2, "R1": "cat", "R2": ["bone", ""], "R3": ""})
    assert describe.take_complete(whole, trials, english, "R123") == (whole, "strengths")
    assert describe.take_complete(cut, None, english, "R123")[1] == "strengths, lists cut"
    taken, kind = describe.take_complete(cut, trials, english, "R123")
    assert kind == "participants" and taken["count"].tolist() == [2, 1]


def test_difference_is_paired_by_concept():
    first = pd.DataFrame({"cue": ["dog", "sun", "sky"], "entropy": [3.0, 4.0, 9.0]})
    second = pd.DataFrame({"cue": ["狗", "太阳", "天"], "entropy": [2.0, 3.5, np.nan]})
    pairs = pd.DataFrame({"first": ["dog", "sun", "sky"], "second": ["狗", "太阳", "天"], "family": [0, 1, 2]})
    (row,) = describe.compare_cues(first, second, pairs, ["entropy"], resamples=50, level=0.95, seed=0).to_dict("records")
    assert (row["first"], row["second"], row["difference"], row["n"]) == (3.5, 2.75, 0.75, 2)
    assert 0.5 <= row["low"] <= row["high"] <= 1


def test_directions_by_hand(english):
    rows = [
        ("Turkey", "Bird", 2, 10), ("turkey", "bird", 4, 20), ("bird", "turkey", 1, 10), ("bird", "bird", 5, 10),
        ("bird", "sky", 1, 10), ("dog", "bird", 3, 10),
    ]  # fmt: skip
    frame = describe.pair_directions(pd.DataFrame(rows, columns=["cue", "response", "count", "n"]), english)
    found = {(row.cue, row.response): (row.forward, row.backward, row.mutual) for row in frame.itertuples()}
    assert found == {
        ("turkey", "bird"): (0.2, 0.1, True), ("bird", "turkey"): (0.1, 0.2, True), ("dog", "bird"): (0.3, 0.0, False),
    }  # fmt: skip
    (row,) = describe.describe_asymmetry({"us": frame}, resamples=50, level=0.95, seed=0).to_dict("records")
    assert (row["pairs"], row["mutual"], row["difference_p50"]) == (3, pytest.approx(2 / 3), pytest.approx(0.1))
    assert np.isnan(row["spearman"]), "one pair says nothing of a correlation"


def test_symmetric_associations_correlate_fully_and_the_order_of_words_does_not_matter(english):
    strengths = {("a", "b"): 8, ("c", "d"): 5, ("e", "f"): 2}
    rows = [(*pair[::step], count, 10) for pair, count in strengths.items() for step in (1, -1)]
    frame = pd.DataFrame(rows, columns=["cue", "response", "count", "n"])
    for part in (frame, frame[::-1]):
        directions = describe.pair_directions(part, english)
        (row,) = describe.describe_asymmetry({"us": directions}, resamples=50, level=0.95, seed=0).to_dict("records")
        assert row["mutual"] == 1 and row["spearman"] == pytest.approx(1) and row["difference_p90"] == 0


def test_research_lists_are_cut_and_the_participants_answers_whole(real_data):
    cfg = config.load("cpu_real", data_dir=real_data)
    for name in cfg.cultures:
        part = strengths.load_norms(cfg)[name]
        if part.norms["count"].sum() > describe.WHOLE * part.norms.groupby("cue")["n"].first().sum():
            pytest.skip("these strengths are whole")
        taken, kind = describe.take_complete(part.norms, part.trials, cfg.language_of(name), "R123")
        common = set(taken["cue"]) & set(part.norms["cue"])
        sizes = [describe.measure_cues(f[f["cue"].isin(common)], tokens=1)["set_size"].mean() for f in (part.norms, taken)]
        assert kind == "participants" and sizes[1] > 2 * sizes[0]


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
