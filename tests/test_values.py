"""Distances against scipy and closed forms; tension worked by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from align_utils import stats
from align_utils.models import prompts
from align_utils.survey import answers, distances


@st.composite
def two_distributions(draw):
    k = draw(st.integers(2, 10))
    raw = draw(st.lists(st.floats(0.001, 1), min_size=2 * k, max_size=2 * k))
    p, q = np.array(raw[:k]), np.array(raw[k:])
    return p / p.sum(), q / q.sum()


@settings(max_examples=80, deadline=None)
@given(two_distributions())
def test_wasserstein_agrees_with_scipy_and_is_a_distance(pair):
    p, q = pair
    support = np.arange(len(p))
    expected = scipy_stats.wasserstein_distance(support, support, p, q) / (len(p) - 1)
    assert distances.wasserstein(p, q) == pytest.approx(expected, abs=1e-9)
    assert 0 <= distances.wasserstein(p, q) <= 1 and distances.wasserstein(p, p) == 0
    assert distances.wasserstein(p, q) == pytest.approx(distances.wasserstein(q, p))
    middle = (p + q) / 2
    entropy = lambda x: scipy_stats.entropy(x, base=2)  # noqa: E731
    means = support @ p, support @ q
    assert distances.mean_difference(p, q) == pytest.approx((means[0] - means[1]) / (len(p) - 1), abs=1e-9)
    assert abs(distances.mean_difference(p, q)) <= distances.wasserstein(p, q) + 1e-12
    assert distances.jensen_shannon(p, q) == pytest.approx(entropy(middle) - (entropy(p) + entropy(q)) / 2, abs=1e-9)


def test_closed_forms():
    for k in range(2, 11):
        ends, uniform, step = np.eye(k)[[0, -1]], np.full(k, 1 / k), np.eye(k)[1]
        assert distances.wasserstein(*ends) == pytest.approx(1) and distances.jensen_shannon(*ends) == pytest.approx(1)
        assert distances.wasserstein(ends[0], uniform) == pytest.approx(1 / 2), "the mean of 0 ... 1"
        assert distances.wasserstein(ends[0], step) == pytest.approx(1 / (k - 1))
        assert distances.wasserstein(ends.mean(axis=0), uniform) == pytest.approx(((k + 1) // 2 - 1) * (k // 2) / (k * (k - 1)))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 10), st.data())
def test_unweighted_answers_lie_as_far_apart_as_worldvaluesbench_says(k, data):
    """Its formula: both sets of answers rescaled to 0 ... 1 by the scale's ends, then the Wasserstein distance of the two samples."""
    first, second = (np.array(data.draw(st.lists(st.integers(1, k), min_size=1, max_size=40))) for _ in range(2))
    benchmark = scipy_stats.wasserstein_distance((first - 1) / (k - 1), (second - 1) / (k - 1))
    shares = [np.bincount(given, minlength=k + 1)[1:] / len(given) for given in (first, second)]
    assert distances.wasserstein(*shares) == pytest.approx(benchmark, abs=1e-9)


@pytest.mark.parametrize("bad", [[0.5, 0.6], [1.0], [-0.1, 1.1], [float("nan"), 1.0]])
def test_what_is_no_distribution_is_refused(bad):
    with pytest.raises(ValueError, match="not a distribution"):
        distances.wasserstein(np.array(bad), np.array([0.5] * len(bad)))


HUMAN = pd.DataFrame(
    [("Q1", "us", 1, 0.9), ("Q1", "us", 2, 0.1), ("Q1", "cn", 1, 0.1), ("Q1", "cn", 2, 0.9)]
    # Q56 is coded 1, 3, 2 in the scale's order
    + [
        ("Q56", c, code, share)
        for c, shares in (("us", [1, 0, 0]), ("cn", [0, 1, 0]))
        for code, share in zip([1, 3, 2], shares, strict=True)
    ],
    columns=["question", "culture", "code", "share"],
)


def test_tension_worked_by_hand():
    tension = distances.rank_tension(HUMAN, "us", "cn", size=1)
    assert tension["question"].tolist() == ["Q1", "Q56"] and tension["tension"].tolist() == pytest.approx([0.8, 0.5])


@pytest.mark.parametrize(
    ("available", "wanted", "size"),
    [
        (36, 50, 18),
        (55, 50, 18),
        (60, 50, 20),
        (233, 50, 50),
        (150, 50, 50),
        (149, 50, 49),
        (20, 50, 10),
        (1, 50, 0),
        (60, 5, 5),
    ],
)
def test_the_set_is_a_third_or_eighteen_and_never_over_half(available, wanted, size):
    assert distances.choose_size(available, wanted) == size


def test_orders_are_averaged_and_the_pair_is_the_first_and_the_last():
    names = {"model": "m", "adapter": "none", "stage": "zero_shot", "language": "en", "persona": "none", "question": "Q1"}
    rows = [
        {**names, "order": o, "place": place, "code": 1, "probability": p, "option_mass": 1}
        for o, place, p in ((0, 1, 0.2), (1, 3, 0.9), (2, 2, 0.4), (3, 3, 0.6))
    ]
    assert answers.average_orders(pd.DataFrame(rows))["share"].tolist() == pytest.approx([0.5])
    assert answers.average_orders(pd.DataFrame(rows), pair_only=True)["share"].tolist() == pytest.approx([0.4])


@pytest.mark.parametrize("n", range(2, 11))
@pytest.mark.parametrize("numeric", [False, True])
def test_an_answerer_who_only_likes_a_place_comes_out_in_the_middle(n, numeric):
    if numeric and n < 3:
        return
    names = {"model": "m", "adapter": "none", "stage": "zero_shot", "language": "en", "persona": "none", "question": "Q1"}
    rows = [
        {**names, "order": number, "place": place + 1, "code": code, "probability": float(place == 0), "option_mass": 1}
        for number, order in enumerate(prompts.list_orders(n, numeric=numeric))
        for place, code in enumerate(order)
    ]
    averaged = answers.average_orders(pd.DataFrame(rows)).sort_values("code")
    assert (averaged["share"] * averaged["code"]).sum() == pytest.approx((n - 1) / 2)
    if not numeric:
        assert averaged["share"].tolist() == pytest.approx([1 / n] * n)


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
    assert stats.wilson_interval(13, 50) == pytest.approx((0.159, 0.396), abs=1e-3)


def test_sign_flips_are_exact_for_few_groups_and_keep_groups_together():
    # Five differences of one sign: 2 of the 32 sign patterns are as extreme.
    assert stats.permute_signs([0.1, 0.2, 0.1, 0.3, 0.2], list("abcde"), resamples=2000, seed=0) == pytest.approx(2 / 32)
    assert stats.permute_signs([0.1] * 10, list("aabbccddee"), resamples=2000, seed=0) == pytest.approx(2 / 32)
    assert np.isnan(stats.permute_signs([0.1, 0.1], ["a", "a"], resamples=100, seed=0)), "one unit says nothing"
    noise = np.random.default_rng(2).normal(size=(60, 40))
    p = [stats.permute_signs(row, range(40), resamples=200, seed=1) for row in noise]
    assert 0 <= np.mean(np.array(p) < 0.05) <= 0.15 and 0.3 < np.mean(p) < 0.7, "even under no difference"


def test_holm_worked_by_hand():
    assert stats.adjust_holm([0.01, 0.04, 0.03, np.nan, 0.6])[:3] == pytest.approx([0.04, 0.09, 0.09])
    assert np.isnan(stats.adjust_holm([0.5, np.nan])[1]) and stats.adjust_holm([0.6, 0.7]).max() == 1


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
