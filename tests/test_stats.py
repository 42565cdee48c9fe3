"""Intervals and tests against scipy, closed forms and by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from align_utils import stats


def test_paired_bootstrap_covers_and_respects_groups():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(60):
        low, high = stats.bootstrap_interval(rng.normal(1, 1, 40), resamples=400, level=0.95, seed=seed)[1:]
        hits += low <= 1 <= high
    assert 51 <= hits <= 60
    values_, groups = np.repeat([0.0, 1.0], 50), np.repeat([0, 1], 50)
    grouped = stats.bootstrap_interval(values_, groups, resamples=400, level=0.95, seed=0)
    assert grouped == (0.5, 0.0, 1.0), "two groups are two observations, however many rows they have"


def test_intervals_agree_with_scipy():
    data = np.random.default_rng(1).exponential(size=60)
    low, high = stats.bootstrap_interval(data, resamples=4000, level=0.9, seed=3)[1:]
    reference = scipy_stats.bootstrap((data,), np.mean, confidence_level=0.9, n_resamples=4000, method="percentile", rng=3)
    assert (low, high) == pytest.approx(tuple(reference.confidence_interval), abs=0.02)
    assert stats.wilson_interval(13, 50, level=0.95) == pytest.approx((0.159, 0.396), abs=1e-3)


def test_sign_flips_are_exact_for_few_groups_and_keep_groups_together():
    # Five differences of one sign: 2 of the 32 sign patterns are as extreme.
    assert stats.permute_signs([0.1, 0.2, 0.1, 0.3, 0.2], list("abcde"), resamples=2000, seed=0) == pytest.approx(2 / 32)
    assert stats.permute_signs([0.1] * 10, list("aabbccddee"), resamples=2000, seed=0) == pytest.approx(2 / 32)
    assert np.isnan(stats.permute_signs([0.1, 0.1], ["a", "a"], resamples=100, seed=0)), "one unit says nothing"
    noise = np.random.default_rng(2).normal(size=(60, 40))
    p = [stats.permute_signs(row, range(40), resamples=200, seed=1) for row in noise]
    assert 0 <= np.mean(np.array(p) < 0.05) <= 0.15 and 0.3 < np.mean(p) < 0.7, "even under no difference"


def test_holm_worked_by_hand():
    table = pd.DataFrame({"model": list("aabaab"), "p": [0.01, 0.04, 0.6, 0.03, np.nan, 0.7]})
    assert stats.add_holm(table, [])["p_holm"].tolist() == pytest.approx([0.05, 0.12, 1, 0.12, np.nan, 1], nan_ok=True)
    assert stats.add_holm(table, ["model"])["p_holm"].tolist() == pytest.approx([0.03, 0.06, 1, 0.06, np.nan, 1], nan_ok=True)


def test_a_clear_difference_survives_holm_in_a_large_family():
    """51 comparisons, one of them real: with as many flips as an interval has draws, 2,000, no p could come below 51 * 2 / 2001."""
    rng = np.random.default_rng(1)
    rows = [
        (f"c{n}", cue, name, x)
        for n in range(51)
        for cue in range(40)
        for name, x in zip("ab", rng.normal(0, 1, 2), strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["culture", "cue", "stage", "x"])
    frame.loc[(frame["culture"] == "c7") & (frame["stage"] == "b"), "x"] += 3
    table = stats.compare(
        frame,
        ["culture"],
        "x",
        over="stage",
        pairs=[("b", "a")],
        key="cue",
        unit="cue",
        family=[],
        resamples=2000,
        level=0.95,
        seed=0,
    ).set_index("culture")
    assert table.loc["c7", "p_holm"] < 0.01 and (table["p_holm"] < 0.05).sum() == 1


def test_comparison_is_paired_by_key():
    frame = pd.DataFrame({"stage": ["a", "a", "b", "b"], "cue": ["x", "y", "x", "y"], "c": "us", "p": [0.2, 0.8, 0.4, 1.0]})
    table = stats.compare(
        frame, ["c"], "p", over="stage", pairs=[("b", "a")], key="cue", unit="cue", resamples=50, level=0.95, seed=0
    )
    assert table[["comparison", "n"]].values.tolist() == [["b - a", 2]]
    assert table[["value", "low", "high"]].iloc[0].tolist() == pytest.approx([0.2] * 3)
    assert np.isnan(table["effect"].iloc[0]), "no spread, no standardised size"
    frame.loc[frame["stage"] == "b", "p"] = [0.3, 1.1]  # differences 0.1 and 0.3: mean 0.2, standard deviation 0.1414
    table = stats.compare(
        frame, ["c"], "p", over="stage", pairs=[("b", "a")], key="cue", unit="cue", resamples=50, level=0.95, seed=0
    )
    assert table["effect"].iloc[0] == pytest.approx(2**0.5)


def test_two_levels_hold_the_spread_of_both():
    rng = np.random.default_rng(0)
    items, runs = rng.normal(0, 1, 200), rng.normal(0, 0.5, 8)
    frame = pd.DataFrame([(i, r, a + b) for i, a in enumerate(items) for r, b in enumerate(runs)], columns=["item", "run", "x"])
    settings_ = {"resamples": 4000, "level": 0.95, "seed": 1}
    value, low, high = stats.bootstrap_levels(frame["x"], frame["item"], frame["run"], **settings_)
    # Independent parts: the variances of the two means add up (bootstrap variances, so with 1/n and not 1/(n - 1)).
    expected = (items.var() / 200 + runs.var() / 8) ** 0.5
    assert value == pytest.approx(frame["x"].mean()) and (high - low) / (2 * 1.96) == pytest.approx(expected, rel=0.08)
    same = frame.assign(x=frame["x"] - runs[frame["run"]])
    _, low, high = stats.bootstrap_levels(same["x"], same["item"], same["run"], **settings_)
    _, lower, higher = stats.bootstrap_interval(items, **settings_)
    assert high - low == pytest.approx(higher - lower, rel=0.08), "runs that agree add nothing"
