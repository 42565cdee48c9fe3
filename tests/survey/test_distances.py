"""Distances against scipy and closed forms; the ranking of items by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from scipy.spatial.distance import jensenshannon

from align_utils.survey import distances


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
    means = support @ p, support @ q
    assert distances.mean_difference(p, q) == pytest.approx((means[0] - means[1]) / (len(p) - 1), abs=1e-9)
    assert abs(distances.mean_difference(p, q)) <= distances.wasserstein(p, q) + 1e-12
    assert distances.jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-9)
    assert distances.jensen_shannon(p, p) == 0


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


# Q56 is coded 1, 3, 2 in the scale's order.
GIVEN = {
    ("Q1", "us"): {1: 0.9, 2: 0.1},
    ("Q1", "cn"): {1: 0.1, 2: 0.9},
    ("Q56", "us"): {1: 1, 3: 0, 2: 0},
    ("Q56", "cn"): {1: 0, 3: 1, 2: 0},
}
HUMAN = pd.DataFrame(
    [(*key, *pair) for key, by in GIVEN.items() for pair in by.items()], columns=["question", "culture", "code", "share"]
)
HALVES = pd.concat([HUMAN.assign(half=1), HUMAN.assign(half=2)])
NAMES = {"model": "m", "adapter": "none", "stage": "zero_shot", "language": "en", "persona": "none", "seed": 0}


def test_items_are_ranked_by_the_countries_distance():
    ranked = distances.rank_items(HUMAN, ("us", "cn"), wanted=1)
    assert ranked["question"].tolist() == ["Q1", "Q56"] and ranked["tension"].tolist() == pytest.approx([0.8, 0.5])
    assert ranked["chosen"].tolist() == [True, False]


def test_every_answerer_is_measured_in_the_order_of_the_scale():
    shares = pd.DataFrame([("Q56", 1, 0.0), ("Q56", 2, 1.0), ("Q56", 3, 0.0)], columns=["question", "code", "share"])
    found = distances.measure_distances(distances.add_references(shares.assign(**NAMES), HUMAN, HALVES), HUMAN, HALVES)
    table = found.set_index(["stage", "adapter", "question", "to"])["wasserstein"].sort_index()
    # Coded 1, 3, 2: the last point lies a whole scale from the first, where the first country is, and half of one from the second's.
    assert table["zero_shot", "none", "Q56"].to_dict() == pytest.approx({"us": 1.0, "cn": 0.5})
    assert table["human", "us", "Q1"].to_dict() == pytest.approx({"cn": 0.8}), "a country is not held against itself"
    assert table["human_half", "us", "Q1"].to_dict() == pytest.approx({"us": 0.0, "cn": 0.8})
    assert table["uniform", "none", "Q1"].tolist() == pytest.approx([0.4, 0.4])


@pytest.mark.parametrize("bad", [[0.5, 0.6], [1.0], [-0.1, 1.1], [float("nan"), 1.0]])
def test_what_is_no_distribution_is_refused(bad):
    given = pd.DataFrame({"question": "Q1", "code": range(1, len(bad) + 1), "share": bad, **NAMES})
    with pytest.raises(ValueError, match="Q1: not a distribution over the codes"):
        distances.measure_distances(given, HUMAN, HALVES)


@pytest.mark.parametrize(
    ("available", "wanted", "size"),
    [(36, 50, 18), (55, 50, 18), (60, 50, 20), (233, 50, 50), (150, 50, 50), (149, 50, 49), (20, 50, 10), (1, 50, 0), (60, 5, 5)],
)  # fmt: skip
def test_the_set_is_a_third_or_eighteen_and_never_over_half(available, wanted, size):
    assert distances.choose_size(available, wanted) == size
