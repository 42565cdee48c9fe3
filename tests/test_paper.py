"""The paper's table beside ours: what is said of which numbers."""

import pandas as pd
import pytest

from align_utils import config, paper

NAMES = ["metric", "culture", "stage", "language", "value", "low", "high", "n", "subset", "method"]


def list_gain(few, low, ppo, gap_low, *, culture="us", frequency=0.05):
    rows = [
        ("precision_at_5_attested", culture, "few_shot", "en", few, low, few + 0.1, 48, "all", None),
        ("precision_at_5_attested", culture, "ppo", "en", ppo, ppo - 0.1, ppo + 0.1, 48, "all", None),
        ("precision_at_5_attested", culture, "frequency", "en", frequency, 0.0, 0.1, 48, "all", None),
        ("precision_at_5_attested_difference", culture, None, "en", ppo - few, gap_low, 0.5, 48, "all", "ppo - few_shot"),
    ]
    return pd.DataFrame(rows, columns=NAMES).assign(model="tiny")


@pytest.mark.parametrize(
    ("numbers", "ours", "verdict"),
    [
        ((0.2, 0.15, 0.3, 0.05), "0.20 -> 0.30 (+50%)", "reproduced"),
        ((0.2, 0.15, 0.21, 0.005), "0.20 -> 0.21 (+5%)", "same direction"),
        ((0.2, 0.15, 0.3, -0.01), "0.20 -> 0.30 (+50%)", "not seen"),
        ((0.06, 0.03, 0.3, 0.1), "0.06 -> 0.30 (vanilla at the baselines' level: no ratio)", "same direction"),
        ((0.0, 0.0, 0.3, 0.1), "0.00 -> 0.30 (vanilla at the baselines' level: no ratio)", "same direction"),
    ],
)
def test_gain_is_told_and_judged_by_its_interval(numbers, ours, verdict):
    table = paper.compare_with_paper(config.load("smoke"), list_gain(*numbers)).set_index("claim")
    row = table.loc["P@5 gain over the vanilla model, English"]
    assert row["ours"] == ours and row["verdict"] == f"not testable here (illustrative sample; {verdict} on it)"
    assert table.loc["P@5 gain over the vanilla model, Mandarin", "ours"] == "not measured"


def test_counts_stand_beside_the_papers_with_their_p():
    rows = [
        ("aligned_with_china", "none", "zero_shot", "zh", 0.2, 0.1, 0.4, 20, None, None),
        ("aligned_with_china", "cn", "ppo", "zh", 0.5, 0.3, 0.7, 20, None, None),
        ("aligned_with_china_p", "cn", "ppo", "zh", 0.03, None, None, 20, None, None),
    ]
    table = paper.compare_with_paper(config.load("smoke"), pd.DataFrame(rows, columns=NAMES).assign(model="tiny"))
    row = table[table["claim"].str.contains("Qwen")].iloc[0]
    assert row["paper"] == "13 -> 25 of 50 (Fisher p = 0.023 as if independent)"
    assert row["ours"] == "4 -> 10 of 20, asked in Mandarin (McNemar p = 0.03)"
    assert row["verdict"] == "not testable here (illustrative sample; same direction on it)"


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
    assert row["ours"] == f"equivalence (TOST): valence us p = 0.02, arousal us p = {p:.2f}"
    assert row["verdict"] == f"not testable here (illustrative sample; {verdict} on it)" and row["n"] == 40
