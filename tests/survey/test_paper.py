"""The paper's table beside ours: what is said of which numbers."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from align_utils import config
from align_utils.survey import paper
from align_utils.survey.verdicts import BLIND, UNMOVED

NAMES = ["metric", "culture", "stage", "language", "value", "low", "high", "n", "subset", "method"]


def list_gain(few, low, ppo, gap_low, *, culture="us", frequency=0.05):
    rows = [
        ("precision_at_5_attested", culture, "few_shot", "en", few, low, few + 0.1, 48, "all", None),
        ("precision_at_5_attested", culture, "ppo", "en", ppo, ppo - 0.1, ppo + 0.1, 48, "all", None),
        ("precision_at_5_attested", culture, "frequency", "en", frequency, 0.0, 0.1, 48, "all", None),
        ("precision_at_5_attested_difference", culture, None, "en", ppo - few, gap_low, 0.5, 48, "all", "ppo - few_shot"),
    ]
    return pd.DataFrame(rows, columns=NAMES).assign(model="tiny")


def on_sample(verdict):
    return f"{'as stated' if verdict == 'reproduced' else verdict}, made-up data"


@pytest.mark.parametrize(
    ("numbers", "ours", "verdict"),
    [
        ((0.2, 0.15, 0.236, 0.01), "0.200 -> 0.236 (+18%)", "reproduced"),
        ((0.2, 0.15, 0.3, 0.05), "0.200 -> 0.300 (+50%)", "larger gain"),
        ((0.2, 0.15, 0.21, 0.005), "0.200 -> 0.210 (+5%)", "same direction"),
        ((0.2, 0.15, 0.3, -0.01), "0.200 -> 0.300 (+50%)", "not seen"),
        ((0.06, 0.03, 0.3, 0.1), "0.060 -> 0.300 (no ratio: vanilla is at chance)", "same direction"),
        ((0.0, 0.0, 0.3, 0.1), "0.000 -> 0.300 (no ratio: vanilla is at chance)", "same direction"),
    ],
)
def test_gain_is_told_and_judged_by_its_interval(numbers, ours, verdict):
    table = paper.compare_with_paper(config.load("smoke"), list_gain(*numbers)).set_index("claim")
    row = table.loc["P@5 gain over the vanilla model, English"]
    assert row["here"] == ours and row["verdict"] == on_sample(verdict)
    assert table.loc["P@5 gain over the vanilla model, Mandarin", "here"] == "not measured"


def count(stage, before_after, p, *, n=20, metric="aligned_with_china", culture="cn"):
    return [
        (metric, culture, stage, "zh", before_after / n, 0.3, 0.7, n, None, None),
        (f"{metric}_p_holm", culture, stage, "zh", p, None, None, n, None, None),
    ]


def judge_counts(*rows):
    base = ("aligned_with_china", "none", "zero_shot", "zh", 0.2, 0.1, 0.4, 20, None, None)
    frame = pd.DataFrame([base, *[row for part in rows for row in part]], columns=NAMES).assign(model="tiny")
    table = paper.compare_with_paper(config.load("smoke"), frame)
    return table[table["claim"].str.contains("Qwen")].iloc[0]


def test_counts_stand_beside_the_papers_with_their_uncertainty():
    mode = [("aligned_with_china_mode", "none", "zero_shot", "zh", 0.25, 0.1, 0.4, 20, None, None)]
    row = judge_counts(count("ppo", 10, 0.03), mode, count("ppo", 7, 0.4, metric="aligned_with_china_mode"))
    assert row[["paper", "here"]].tolist() == ["13 -> 25 of 50", "4 -> 10 of 20"]
    assert (
        row["details"]
        == "asked in Mandarin; McNemar p = 0.03 after Holm; by the modal answer 5 -> 7 (p = 0.40); controls: none"
    )
    # As large as the paper's and shown, but no control stands beside it.
    assert row["verdict"] == on_sample("same direction")


@pytest.mark.parametrize(
    ("after", "p", "control", "verdict"),
    [
        (10, 0.03, 9, "reproduced"),
        (10, 0.03, 10, "same direction"),  # a control does as well
        (8, 0.03, 4, "same direction"),  # +4 of 20 is less than +12 of 50
        (10, 0.2, 4, "not seen"),
        (2, 0.01, 4, "not seen"),  # the other way
    ],
)
def test_counts_are_judged_by_test_size_and_controls(after, p, control, verdict):
    row = judge_counts(count("ppo", after, p), count("control_shuffled", control, 1.0))
    assert row["verdict"] == on_sample(verdict)
    assert row["details"].endswith(f"controls: shuffled {control}")


def test_counts_that_no_control_could_have_moved_are_not_measurable():
    told = [(f"shift_verdict_{name}", "cn", "ppo", "zh", 0.0, -0.1, 0.1, 60, None, BLIND) for name in ("distance", "slope")]
    assert judge_counts(count("ppo", 4, 1.0), told)["verdict"] == on_sample("not measurable")
    seen = [told[0], (*told[1][:9], UNMOVED)]
    assert judge_counts(count("ppo", 4, 1.0), seen)["verdict"] == on_sample("not seen")
    assert judge_counts(count("ppo", 10, 0.03), told)["verdict"] == on_sample("same direction")


@pytest.mark.parametrize(
    ("foreign", "shuffled", "verdict"), [(9, 9, "reproduced"), (10, 9, "same direction"), (4, None, "same direction")]
)
def test_the_other_cultures_adapter_is_a_control_but_not_the_only_one(foreign, shuffled, verdict):
    rows = [] if shuffled is None else [count("control_shuffled", shuffled, 1.0)]
    both = [count("sft", number, 1.0, culture=name) for number, name in ((2, "rp"), (foreign, "us"))]
    row = judge_counts(count("ppo", 10, 0.03), *both, *rows)
    assert row["verdict"] == on_sample(verdict)
    assert f"foreign {foreign}" in row["details"]


def test_china_is_known_by_its_country_whatever_its_name_and_place():
    cfg = config.load("smoke")
    found = {"prc": cfg.cultures["cn"], "us": cfg.cultures["us"]}
    vars(cfg)["cultures"] = found
    base = ("aligned_with_china", "none", "zero_shot", "zh", 0.2, 0.1, 0.4, 20, None, None)
    frame = pd.DataFrame([base, *count("ppo", 10, 0.03, culture="prc")], columns=NAMES).assign(model="tiny")
    gain = list_gain(0.2, 0.15, 0.3, 0.05, culture="prc")
    table = paper.compare_with_paper(cfg, pd.concat([frame, gain])).set_index("claim")["here"]
    assert table["P@5 gain over the vanilla model, Mandarin"] == "0.200 -> 0.300 (+50%)"
    assert table[table.index.str.contains("Qwen")].item() == "4 -> 10 of 20"


def test_all_claims_have_a_row_and_no_70b_is_said():
    table = paper.compare_with_paper(config.load("smoke"), list_gain(0.2, 0.15, 0.3, 0.05))
    assert len(table) == 7 and table.iloc[-1][["here", "verdict"]].tolist() == [
        "no 70B baseline in this run", "not measured here",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("precision", "aligned", "verdict"),  # of the 70B; ours: P@5 0.30 with an interval up to 0.40, 10 of 20 up to 0.7
    [
        (0.30, None, "reproduced"),
        (0.35, None, "not seen"),  # within our interval, which fewer cues would widen, yet above our value
        (0.25, 10, "reproduced"),
        (0.25, 12, "same direction"),
        (0.45, 8, "same direction"),
        (0.45, 12, "not seen"),
        (None, 8, None),  # the survey alone
    ],
)
def test_a_70b_is_matched_by_values_on_every_measure(precision, aligned, verdict):
    frame = pd.concat(
        [list_gain(0.2, 0.15, 0.3, 0.05), pd.DataFrame(count("ppo", 10, 0.03), columns=NAMES).assign(model="tiny")]
    )
    parts = [] if precision is None else [list_gain(precision, 0.1, 0.9, 0.1)]
    parts += [] if aligned is None else [pd.DataFrame(count("zero_shot", aligned, 0.03, culture="none"), columns=NAMES)]
    row = paper.compare_with_paper(
        config.load("smoke"), pd.concat([frame, *[p.assign(model="qwen2.5-72b") for p in parts]])
    ).iloc[-1]
    told = [] if precision is None else [f"precision_at_5_attested us 0.30 against {precision:.2f} of qwen2.5-72b"]
    told += [] if aligned is None else [f"aligned_with_china zh 0.50 against {aligned / 20:.2f} of qwen2.5-72b"]
    assert row["details"] == "; ".join(told) and row["here"].endswith(f" of {len(told)} measures")
    assert row["verdict"] == ("not measured here" if verdict is None else on_sample(verdict))


@pytest.mark.parametrize(("p", "verdict"), [(0.01, "reproduced"), (0.2, "not seen")])
def test_human_level_needs_every_equivalence(p, verdict):
    rows = [
        ("human_level_p", "us", "ppo", "en", 0.02, None, None, 40, None, "valence"),
        ("human_level_p", "us", "ppo", "en", p, None, None, 40, None, "arousal"),
        ("human_level_p", "us", "sft", "en", 0.9, None, None, 40, None, "arousal"),
        ("human_level_p", "cn", "ppo", "zh", None, None, None, 1, None, "arousal"),
    ]
    table = paper.compare_with_paper(config.load("smoke"), pd.DataFrame(rows, columns=NAMES).assign(model="tiny"))
    row = table.set_index("claim").loc["valence and arousal at human level"]
    assert row["details"] == f"equivalence (TOST): valence us p = 0.02, arousal us p = {p:.2f}"
    assert row["verdict"] == on_sample(verdict) and row["n"] == 40


def test_the_papers_margins_leave_this_much_open():
    table = paper.describe_paper(level=0.95).set_index("model")
    assert table.loc["Qwen2.5-7B", ["before", "after", "n"]].tolist() == [13, 25, 50]
    assert table["fisher_p"].round(3).tolist() == [0.023, 0.546]
    for row in table.itertuples():
        for share, *ends in (
            (row.before / 50, row.before_low, row.before_high),
            (row.after / 50, row.after_low, row.after_high),
        ):
            for end in ends:  # Wilson: at its ends the score test has p = 0.05 exactly
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
