"""Populations of answers: hand-worked cases, scipy and brute force as oracles, ranges and symmetry."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from align_utils.lexical import agreement, participants
from align_utils.norms import strengths
from align_utils.stats import jensen_shannon

counts_of = st.lists(st.integers(0, 9), min_size=2, max_size=8)
some = counts_of.filter(any)


def trials_of(answers):
    rows = [[number, cue, *words] for cue, people in answers.items() for number, words in enumerate(people)]
    return pd.DataFrame(rows, columns=["participant", "cue", "R1", "R2", "R3"])


def compare(answers, people, english, cues=("dog",), min_count=1):
    sides = [strengths.build_strengths(trials_of(side), english, "R123") for side in (answers, people)]
    table = participants.compare_populations(*sides, list(cues), english, min_count=min_count)
    return table.set_index(["cue", "measure"])["value"].unstack().T


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 8).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 9), min_size=n, max_size=n).filter(any)] * 2)))
def test_distance_is_scipys_symmetric_and_in_range(pair):
    p, q = (np.array(side) / sum(side) for side in pair)
    found = np.sqrt(jensen_shannon(p, q))
    assert found == pytest.approx(np.sqrt(jensen_shannon(q, p)), abs=1e-12) and 0 <= found <= 1
    # scipy's own value is NaN where rounding makes its divergence negative.
    assert found == pytest.approx(np.nan_to_num(jensenshannon(p, q, base=2)), abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(some, st.integers(1, 72))
def test_rarefaction_is_the_hypergeometric_expectation(counts, size):
    size = min(size, sum(counts))
    distinct, entropy = participants.rarefy(counts, size)
    k = np.arange(1, size + 1)
    chances = np.array([stats.hypergeom.pmf(k, sum(counts), count, size) for count in counts])
    assert distinct == pytest.approx(chances.sum(), abs=1e-9)
    assert entropy == pytest.approx(-(chances * k / size * np.log2(k / size)).sum(), abs=1e-9)
    assert 1 - 1e-9 <= distinct <= size + 1e-9 and -1e-9 <= entropy <= np.log2(size) + 1e-9


@pytest.mark.parametrize("counts", [[3, 2, 1], [4, 4], [1, 1, 1, 1, 1]])
def test_rarefaction_by_listing_every_sample(counts):
    pool = [kind for kind, count in enumerate(counts) for _ in range(count)]
    for size in range(1, len(pool) + 1):
        samples = [np.bincount([pool[i] for i in chosen]) for chosen in combinations(range(len(pool)), size)]
        expected = np.mean([(np.count_nonzero(s), stats.entropy(s, base=2)) for s in samples], axis=0)
        assert participants.rarefy(counts, size) == pytest.approx(tuple(expected))


def test_rarefaction_beyond_the_responses_is_an_error():
    for size in (0, 4):
        with pytest.raises(ValueError, match=f"size {size}"):
            participants.rarefy([2, 1], size)


@settings(max_examples=60, deadline=None)
@given(some, some)
def test_correlation_is_scipys(first, second):
    size = min(len(first), len(second))
    first, second = first[:size], second[:size]
    found = agreement.correlate_ranks(first, second)
    if size < 3 or len(set(first)) == 1 or len(set(second)) == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(stats.spearmanr(first, second).statistic)


def test_measures_worked_by_hand(english):
    # Model: cat 2, bone 1, moon 1. People: cat 4, bone 2, bark 2.
    answers = {"dog": [["Cat", "bone", ""], ["cat", "moon", ""]]}
    people = {"dog": [["cat", "bone", ""], ["cat", "bone", ""], ["cat", "bark", ""], ["CAT", "bark", ""]]}
    row = compare(answers, people, english)["dog"]
    assert row["precision_top"] == row["precision_attested"] == pytest.approx(2 / 5)
    assert row["shared_mass"] == pytest.approx(1 / 2 + 1 / 4)
    assert row["attested_share"] == pytest.approx(3 / 4), "moon alone is no one's answer"
    # Divergence: cat and bone are alike; a quarter on either side has no match: (1/4 + 1/4) / 2 bits.
    assert row["js_distance"] == pytest.approx(0.25**0.5)
    assert np.isnan(row["rank_correlation"]), "two shared responses say nothing"
    assert (row["distinct"], row["entropy"]) == (3, 1.5)
    # People at four of eight responses: 1 - C(4,4)/C(8,4) for cat, twice 1 - C(6,4)/C(8,4) for bone and bark.
    assert row["distinct_gap"] == pytest.approx(3 - (1 - 1 / 70 + 2 * (1 - 15 / 70)))


def test_the_answers_of_people_are_at_no_distance_and_a_collapse_shows(english):
    people = {"dog": [["cat", "bone", "bark"], ["cat", "bone", "pet"], ["cat", "tail", "paw"], ["bone", "leash", "cat"]]}
    same = compare(people, people, english)["dog"]
    assert same["js_distance"] == 0 and same["shared_mass"] == pytest.approx(1) and same["rank_correlation"] == pytest.approx(1)
    assert same["entropy_gap"] == pytest.approx(0) and same["distinct_gap"] == pytest.approx(0)
    collapsed = compare({"dog": [["cat", "bone", "bark"]] * 4}, people, english)["dog"]
    assert collapsed["precision_attested"] == 3 / 5 and collapsed["distinct"] == 3 and collapsed["attested_share"] == 1
    assert collapsed["distinct_gap"] == pytest.approx(3 - 7) and collapsed["entropy_gap"] < -0.5


def test_more_answers_than_people_are_brought_down_to_their_number(english):
    people = {"dog": [["cat", "bone", ""]]}
    row = compare({"dog": [["cat", "bone", "bark"]] * 9}, people, english)["dog"]
    # Two of 27 answers, nine of each kind: alike with chance 8/26.
    assert row["distinct"] == pytest.approx(2 - 8 / 26) and row["distinct_gap"] == pytest.approx(-8 / 26)


def test_a_cue_without_answers_counts_as_wrong_and_measures_nothing_else(english):
    table = compare({"sun": [["hot", "", ""]]}, {"dog": [["cat", "", ""]], "sun": [["hot", "", ""]]}, english, ["dog", "sun"])
    assert table["dog"]["precision_top"] == table["dog"]["shared_mass"] == table["dog"]["attested_share"] == 0
    assert table["dog"].drop(["precision_top", "precision_attested", "shared_mass", "attested_share"]).isna().all()
    assert table["sun"]["js_distance"] == 0


def test_panels_of_people_who_agree_are_alike_and_of_those_who_do_not_share_nothing(english):
    alike = trials_of({"dog": [["cat", "bone", "pet"]] * 9})
    table = participants.compare_panels(alike, ["dog"], english, size=3, splits=4, min_count=1, seed=0)
    found = table.set_index("measure")["value"]
    assert found["shared_mass"] == pytest.approx(1) and found["js_distance"] == pytest.approx(0, abs=1e-9)
    assert found["precision_top"] == pytest.approx(3 / 5)
    apart = trials_of({"dog": [[f"a{i}", f"b{i}", f"c{i}"] for i in range(6)]})
    table = participants.compare_panels(apart, ["dog"], english, size=10, splits=4, min_count=1, seed=0)
    found = table.set_index("measure")["value"]
    assert found["js_distance"] == pytest.approx(1) and found["precision_attested"] == 0


def test_panels_follow_the_seed_and_have_nobody_on_both_sides(english, monkeypatch):
    people = trials_of({"dog": [[f"a{i}", "", ""] for i in range(8)], "sun": [[f"b{i}", "c", ""] for i in range(7)]})
    seen = []
    build = strengths.build_strengths
    monkeypatch.setattr(participants, "build_strengths", lambda trials, *rest: seen.append(trials) or build(trials, *rest))
    draw = dict(size=3, splits=5, min_count=1)
    first, again = (participants.compare_panels(people, ["sun", "dog"], english, **draw, seed=4) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    panels, others = seen[:2]
    assert panels.groupby("cue").size().tolist() == [3] * 10 and others.groupby("cue").size().tolist() == [4] * 5 + [5] * 5
    for code in range(10):
        one, two = (set(part.loc[part["cue"] == code, "participant"]) for part in (panels, others))
        assert not one & two and len(one | two) == (7 if code < 5 else 8)
    assert panels[panels["cue"] < 5].groupby("cue")["R1"].agg(frozenset).nunique() > 1, "every split is a draw of its own"


def test_the_frequency_baseline_draws_training_responses_by_their_frequency(english):
    frame = pd.DataFrame({"cue": ["a", "a", "b", "held"], "response": ["x", "y", "z", "secret"], "count": [60, 30, 10, 999]})
    trials = participants.draw_frequency(frame, ["a", "b"], ["dog", "sun"], size=400, words=1, seed=3)
    share = trials["R1"].value_counts(normalize=True)
    assert set(share.index) == {"x", "y", "z"} and share.to_numpy() == pytest.approx([0.6, 0.3, 0.1], abs=0.06)
    assert (trials[["R2", "R3"]] == "").all(axis=None) and trials.groupby("cue").size().tolist() == [400, 400]
    three = participants.draw_frequency(frame, ["a", "b"], ["dog"], size=5, words=3, seed=3)
    assert all({row.R1, row.R2, row.R3} == {"x", "y", "z"} for row in three.itertuples()), "a participant repeats no word"


def test_a_model_that_answers_nothing_at_all_is_scored_too(english):
    table = compare({"dog": [["", "", ""]] * 3}, {"dog": [["cat", "", ""]]}, english)
    assert table["dog"]["precision_attested"] == table["dog"]["shared_mass"] == 0 and np.isnan(table["dog"]["entropy"])
