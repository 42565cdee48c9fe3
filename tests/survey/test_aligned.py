"""Counts on the items that divide the countries, by hand; the paper's margins against brute force and published figures."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from align_utils.survey import aligned, paper
from align_utils.survey import distances as survey_distances
from align_utils.survey.human import Human, draw_halves

CULTURES = ("us", "cn")
# Three items of three points: the countries' modes differ on Q1 and Q2 and are the same on Q3.
SHARES = {
    "Q1": ([0.8, 0.1, 0.1], [0.1, 0.1, 0.8]),
    "Q2": ([0.7, 0.2, 0.1], [0.1, 0.5, 0.4]),
    "Q3": ([0.5, 0.1, 0.4], [0.9, 0.1, 0.0]),
}
HUMAN = pd.DataFrame(
    [
        (question, culture, code, share, 1000.0)
        for question, both in SHARES.items()
        for culture, shares in zip(CULTURES, both, strict=True)
        for code, share in enumerate(shares, start=1)
    ],
    columns=["question", "culture", "code", "share", "n"],
)
RANKED = pd.DataFrame({"question": list(SHARES), "tension": [0.7, 0.45, 0.4], "chosen": True})


def answer(adapter, stage, shares):
    names = {"model": "m", "adapter": adapter, "stage": stage, "language": "zh", "persona": "none"}
    return [{**names, "question": q, "code": c, "share": p} for q, row in shares.items() for c, p in enumerate(row, start=1)]


def count(cfg, *answers):
    halves = draw_halves(cfg, Human(HUMAN))
    averaged = pd.DataFrame([row for rows in answers for row in rows])
    everyone = survey_distances.add_references(averaged, HUMAN, halves)
    distances = survey_distances.measure_distances(everyone, HUMAN, halves)
    judged = aligned.judge_items(distances, everyone, HUMAN, RANKED, toward="cn", away="us")
    return aligned.count_aligned(judged, **cfg.bootstrap).set_index(["reading", "culture", "stage"])


def test_two_readings_worked_by_hand(cfg):
    base = answer("none", "zero_shot", {"Q1": [0.8, 0.1, 0.1], "Q2": [0.6, 0.3, 0.1], "Q3": [0.5, 0.1, 0.4]})
    # Q1: nearer to cn and its mode; Q2: a tie of two options is no mode, though nearer to cn; Q3: mode of both, nearer to us.
    tuned = answer("cn", "ppo", {"Q1": [0.1, 0.2, 0.7], "Q2": [0.1, 0.45, 0.45], "Q3": [0.5, 0.1, 0.4]})
    table = count(cfg, base, tuned)
    assert table.loc[("nearer", "cn", "ppo"), ["count", "n", "gained", "lost", "p"]].tolist() == [2, 3, 2, 0, 0.5]
    assert table.loc[("mode", "cn", "ppo"), ["count", "n", "shared", "gained", "lost", "p"]].tolist() == [2, 3, 1, 1, 0, 1.0]
    assert table.loc[("nearer", "none", "zero_shot"), "count"] == 0 and table.loc[("mode", "none", "zero_shot"), "count"] == 1
    assert np.isnan(table.loc[("nearer", "none", "zero_shot"), "p"]), "the untuned model is not tested against itself"


def test_references_stand_where_they_must(cfg):
    table = count(cfg, answer("none", "zero_shot", {q: [1 / 3] * 3 for q in SHARES}))
    for people in ("human", "human_half"):
        assert table.loc[("nearer", "cn", people), "count"] == 3 and table.loc[("nearer", "us", people), "count"] == 0
        assert table.loc[("mode", "cn", people), "count"] == 3 and table.loc[("mode", "us", people), "count"] == 1
    for reading in ("nearer", "mode"):  # the model answers evenly, so it is the uniform answerer
        even, model = table.loc[(reading, "none", "uniform")], table.loc[(reading, "none", "zero_shot")]
        assert even["count"] == model["count"]
    assert table.loc[("mode", "none", "uniform"), "count"] == 0, "an even answer has no mode"


def test_chance_is_even_answers_or_one_of_the_options():
    rows = [(q, culture, code) for q, k in (("Q1", 2), ("Q2", 4), ("Q3", 10)) for culture in CULTURES for code in range(k)]
    human = pd.DataFrame(rows, columns=["question", "culture", "code"])
    chosen = pd.DataFrame({"question": ["Q1", "Q2", "Q3"], "chosen": [True, True, False]})
    counts = pd.DataFrame(
        [("nearer", "ppo", 0.6), ("nearer", "uniform", 0.3), ("mode", "uniform", 0.0)], columns=["reading", "stage", "value"]
    )
    assert aligned.find_chance(counts, human, chosen) == {"nearer": 0.3, "mode": (1 / 2 + 1 / 4) / 2}


def test_the_papers_margins_leave_this_much_open():
    table = paper.describe_paper().set_index("model")
    assert table.loc["Qwen2.5-7B", ["before", "after", "n"]].tolist() == [13, 25, 50]
    assert table["fisher_p"].round(3).tolist() == [0.023, 0.546]
    for row in table.itertuples():
        for share, low, high in (
            (row.before / 50, row.before_low, row.before_high),
            (row.after / 50, row.after_low, row.after_high),
        ):
            # Wilson: at its ends the score test has p = 0.05 exactly.
            for end in (low, high):
                assert abs(share - end) / np.sqrt(end * (1 - end) / 50) == pytest.approx(scipy_stats.norm.ppf(0.975))
    # 12 gained and none lost: p = 2 / 2^12; 25 gained and 13 lost: the other extreme.
    assert table.loc["Qwen2.5-7B", "mcnemar_low"] == pytest.approx(2 / 2**12)
    assert table.loc["Qwen2.5-7B", "mcnemar_high"] == pytest.approx(scipy_stats.binomtest(13, 38).pvalue)


@pytest.mark.parametrize(("before", "after"), [(2, 5), (3, 3), (0, 6), (4, 1), (5, 5)])
def test_range_of_mcnemar_is_that_of_all_pairings(before, after, n=6):
    found = set()
    for one, two in product(product([0, 1], repeat=n), repeat=2):
        if sum(one) == before and sum(two) == after:
            gained, lost = (sum(a < b for a, b in zip(*pair, strict=True)) for pair in ((one, two), (two, one)))
            found.add(scipy_stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0)
    assert paper.bound_mcnemar(before, after, n) == pytest.approx((min(found), max(found)))
