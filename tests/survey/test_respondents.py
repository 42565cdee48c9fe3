"""How firm the human side is, against formulas worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from surveys import make_people

from align_utils import config
from align_utils.survey import distances as survey_distances
from align_utils.survey import items as survey_items
from align_utils.survey.human import (
    Human,
    describe_choice,
    describe_people,
    draw_choice,
    draw_halves,
    load_human,
    measure_effective,
    split_people,
)

ALL = survey_items.load_items(ROOT / "data" / "survey", choice="all")
TWO, FOUR = ALL[ALL["question"] == "Q57"], ALL[ALL["question"].isin(["Q2", "Q254", "Q247"])]
SIZES = {"USA": 900, "CHN": 1200}


def load(tmp_path, frame, items):
    for name in ("swow", "wvs"):
        (tmp_path / name).mkdir(exist_ok=True)
    frame.to_csv(tmp_path / "wvs" / "WVS_Cross-National_Wave_7_csv_v6_0.csv", index=False)
    cfg = config.load("cpu_real", data_dir=tmp_path)
    human = load_human(cfg, items)
    assert human.rejected.empty
    return cfg, human


def linearise(frame, question, unit):
    """Taylor-linearised standard error of a weighted mean over units (Cochran 1977, section 6.5), in the file's codes."""
    frame = frame[frame[question] >= 0]
    w = frame["W_WEIGHT"]
    scores = (w * (frame[question] - (w * frame[question]).sum() / w.sum()) / w.sum()).groupby(frame[unit]).sum()
    return float((len(scores) / (len(scores) - 1) * (scores**2).sum()) ** 0.5)


@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_are_as_wide_as_linearised_errors_over_what_is_drawn(tmp_path, clustered):
    people = make_people(FOUR, sizes=SIZES, seed=2)
    people["I_PSU"] = np.arange(len(people)) // 15 if clustered else -4
    if clustered:  # neighbours answer alike
        people["Q2"] = people.groupby("I_PSU")["Q2"].transform("first").where(people.index % 3 > 0, people["Q2"])
        people.loc[people["Q2"] < 0, "Q2"] = 1
    cfg, human = load(tmp_path, people, FOUR)
    table = describe_people(cfg, human).set_index(["question", "culture"])
    for culture, country in (("us", "USA"), ("cn", "CHN")):
        part = people[people["B_COUNTRY_ALPHA"] == country]
        row = table.loc["Q2", culture]
        valid = part[part["Q2"] >= 0]
        assert row["value"] == pytest.approx((np.average(valid["Q2"], weights=valid["W_WEIGHT"]) - 1) / 3)
        assert row["n"] == len(valid) and row["n_effective"] == pytest.approx(measure_effective(valid["W_WEIGHT"]))
        expected = linearise(part, "Q2", "I_PSU" if clustered else "D_INTERVIEW") / 3
        assert (row["high"] - row["low"]) / (2 * 1.96) == pytest.approx(expected, rel=0.09)
        assert row["low"] < row["value"] < row["high"]
        alone = linearise(part, "Q2", "D_INTERVIEW") / 3
        assert (expected > 1.5 * alone) == clustered, "the clusters matter, or the test says nothing"
        assert ("I_PSU" in row["interval"]) == clustered


def test_shares_alone_are_drawn_at_their_n(tmp_path):
    cfg, human = load(tmp_path, make_people(FOUR, sizes=SIZES, seed=2).assign(W_WEIGHT=1), FOUR)
    row = describe_people(cfg, Human(human.shares)).set_index(["question", "culture"]).loc["Q2", "us"]
    part = human.shares[(human.shares["question"] == "Q2") & (human.shares["culture"] == "us")]
    x = np.linspace(0, 1, 4)
    spread = (part["share"] @ x**2 - (part["share"] @ x) ** 2) ** 0.5 / part["n"].iloc[0] ** 0.5
    assert (row["high"] - row["low"]) / (2 * 1.96) == pytest.approx(spread, rel=0.09)
    assert row["interval"] == "multinomial draws at the file's n"
    unsized = Human(human.shares.assign(n=np.nan))
    row = describe_people(cfg, unsized).iloc[0]
    assert row["n"] == cfg.cultures[row["culture"]].survey_n and "as if n" in row["interval"]


def test_halves_lie_as_far_apart_as_the_formula_says(tmp_path):
    """Two options: the distance is |p1 - p2|, near normal, of mean 0 and variance 4 p (1 - p) / n: its mean is that of a half-normal."""
    people = make_people(TWO, sizes=SIZES, seed=4, missing=0).assign(W_WEIGHT=1)
    cfg, human = load(tmp_path, people, TWO)
    for source in (human, Human(human.shares)):
        for culture, first, second in split_people(cfg, source, repeats=2000):
            part = human.shares[human.shares["culture"] == culture]
            p, n = part["share"].iloc[0], part["n"].iloc[0]
            apart = np.abs(first["Q57"] - second["Q57"])[:, 0].mean()
            assert apart == pytest.approx((2 / np.pi) ** 0.5 * 2 * (p * (1 - p) / n) ** 0.5, rel=0.06)
        halves = draw_halves(cfg, source)
        assert halves.groupby(["culture", "half"])["share"].sum().to_numpy() == pytest.approx(1)


def want(cfg, number):
    settings = cfg.profile.survey.model_copy(update={"high_tension": number})
    return config.Config(cfg.profile.model_copy(update={"survey": settings}), cfg.root, cfg.data_dir)


def test_the_choice_is_stable_where_it_is_clear_and_keeps_the_weights(tmp_path):
    items = ALL[ALL["codes"].map(len) == 2].head(9)
    people = make_people(items, sizes=SIZES, seed=1, missing=0)
    is_us, rng = people["B_COUNTRY_ALPHA"] == "USA", np.random.default_rng(0)
    for number, question in enumerate(items["question"]):
        far = 0.8 if number < 2 else 0.5
        people[question] = 2 - (rng.random(len(people)) < np.where(is_us, 0.2, far))
    cfg, human = load(tmp_path, people, items)
    fifty = draw_choice(cfg, human, "us", "cn")
    assert (fifty.sum(axis=1) == 4).all(), "half of nine"
    said = describe_choice(cfg, fifty, human, "us", "cn")
    assert "4 of 9 items" in said and said.endswith(" Fifty need the official cross-national file.")
    cfg = want(cfg, 3)
    chosen = draw_choice(cfg, human, "us", "cn")
    assert (chosen.sum(axis=1) == 3).all()
    assert set(chosen.columns[:2]) == set(items["question"][:2]) and chosen.iloc[:, :2].all(axis=None)
    assert 0.2 < chosen.iloc[:, 2].mean() < 1, "a choice among equals is not stable"
    assert chosen.mean().sum() == pytest.approx(3)
    said = describe_choice(cfg, chosen, human, "us", "cn")
    assert "3 of 9 items" in said and "bootstrap over respondents, weighted" in said and "Fifty" not in said
    # One heavy respondent a country is the whole country, draw or not: the choice moves about much more.
    heavy = people.assign(W_WEIGHT=np.where(people.groupby("B_COUNTRY_ALPHA").cumcount() < 3, 5000.0, 1.0))
    cfg, human = load(tmp_path, heavy, items)
    assert draw_choice(want(cfg, 3), human, "us", "cn").iloc[:, :3].mean(axis=None) < chosen.iloc[:, :3].mean(axis=None)


def test_equally_weighted_respondents_and_their_shares_give_the_same_stability(tmp_path):
    items = ALL[ALL["codes"].map(len) == 4].head(12)
    cfg, human = load(tmp_path, make_people(items, sizes={"USA": 300, "CHN": 300}, seed=8, missing=0).assign(W_WEIGHT=1), items)
    rates = [draw_choice(cfg, source, "us", "cn", draws=1500).mean() for source in (human, Human(human.shares))]
    assert np.abs(rates[0] - rates[1].reindex(rates[0].index)).max() < 0.06


def test_research_shares_have_intervals_and_halves(real_data):
    cfg = config.load("cpu_real", data_dir=real_data)
    items = survey_items.choose_items(cfg)
    human = load_human(cfg, items)
    assert human.respondents is None
    table = describe_people(cfg, human)
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
    halves = draw_halves(cfg, human)
    nobody = pd.DataFrame(columns=[*survey_distances.ANSWERER, "question", "code", "share"])
    references = survey_distances.add_references(nobody, human.shares, halves)
    distances = survey_distances.measure_distances(references, human.shares, halves)
    distances = distances[(distances["stage"] == "human") | (distances["adapter"] == distances["to"])]
    distances = distances.groupby("stage")["wasserstein"].mean()
    assert distances["human_half"] < 0.1 * distances["human"]
