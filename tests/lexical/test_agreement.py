"""Agreement beyond Precision@K: hand-worked cases, scipy and ranx as independent implementations."""

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from align_utils.lexical import agreement

WORDS = st.lists(st.sampled_from(list("abcdefgh")), unique=True, min_size=1, max_size=8)


def test_worked_by_hand(english):
    norms = pd.DataFrame({
        "cue": ["dog"] * 4, "response": ["cat", "bone", "bark", "pet"], "strength": [0.4, 0.2, 0.1, 0.1], "rank": [1, 2, 3, 4],
    })  # fmt: skip
    lists = pd.DataFrame(
        {"cue": ["dog", "dog", "sun"], "stage": ["a", "b", "a"], "responses": [["Bone", "moon", "cat"], [], ["x"]]}
    )
    table = agreement.score_agreement(lists, norms, english, k=2).set_index(["cue", "stage", "measure"])["value"]
    assert table["dog", "a", "pwr"] == pytest.approx((1 / 2) / (1 + 1 / 2)), "the third response is beyond k"
    assert table["dog", "a", "strength_recall"] == pytest.approx(0.2 / 0.8)
    assert table["dog", "a", "jaccard"] == pytest.approx(1 / 3)
    assert math.isnan(table["dog", "a", "rank_correlation"]), "two shared responses say nothing of order"
    assert table["dog", "b", "pwr"] == 0 and table["dog", "b", "strength_recall"] == 0
    assert math.isnan(table["sun", "a", "pwr"]), "people gave nothing"


def test_spellings_that_are_one_response_count_once(english):
    norms = pd.DataFrame(
        {"cue": ["dog"] * 3, "response": ["cat", "Cat", "bone"], "strength": [0.4, 0.2, 0.2], "rank": [1, 2, 3]}
    )
    lists = pd.DataFrame({"cue": ["dog"], "responses": [["bone"]]})
    table = agreement.score_agreement(lists, norms, english, k=5).set_index("measure")["value"]
    assert table["pwr"] == pytest.approx((1 / 2) / (1 + 1 / 2)) and table["strength_recall"] == pytest.approx(0.25)


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS, st.lists(st.integers(1, 5), min_size=8, max_size=8))
def test_rank_correlation_agrees_with_scipy(generated, human, counts):
    strengths = {word: count / 10 for word, count in zip(human, counts, strict=False)}
    shared = [(-place, strengths[word]) for place, word in enumerate(generated) if word in strengths]
    ours = agreement.correlate_ranks([place for place, _ in shared], [strength for _, strength in shared])
    if len(shared) < 3 or len({strength for _, strength in shared}) == 1:
        assert math.isnan(ours)
    else:
        assert ours == pytest.approx(stats.spearmanr(*zip(*shared, strict=True)).statistic)


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS, st.sampled_from([1, 3, 5]))
def test_weighted_measures_stay_in_bounds_and_are_reached_by_people_themselves(generated, human, k):
    strengths = {word: 1 / (place + 1) for place, word in enumerate(human)}
    assert 0 <= agreement.weigh_ranks(generated, human, k) <= 1 + 1e-12
    assert agreement.weigh_ranks(human, human, k) == pytest.approx(1)
    assert agreement.recall_strength(human, strengths, len(human)) == pytest.approx(1)
    hits = set(generated[:k]) & set(human)
    assert (agreement.weigh_ranks(generated, human, k) > 0) == bool(hits)
    assert (agreement.recall_strength(generated, strengths, k) > 0) == bool(hits)


@settings(max_examples=30, deadline=None)
@given(WORDS, WORDS, st.sampled_from([1, 3, 5]))
def test_strength_recall_of_equal_strengths_is_the_recall_of_ranx(generated, human, k):
    ranx = pytest.importorskip("ranx")
    qrels = ranx.Qrels({"q": dict.fromkeys(human, 1)})
    run = ranx.Run({"q": {word: 1 / (place + 1) for place, word in enumerate(generated)}})
    assert agreement.recall_strength(generated, dict.fromkeys(human, 1.0), k) == pytest.approx(
        ranx.evaluate(qrels, run, f"recall@{k}")
    )
