"""Planted shifts in log-shares, what style alone does, which reading people recognise themselves in, and the verdicts."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from align_utils import config
from align_utils.survey import distances, shifts, slopes, verdicts

SCALES = {"four": 4, "five": 5, "alone": 3}
ITEMS = pd.DataFrame(
    [{"question": f"Q{n}", "topic": "t", "scale": scale, "codes": list(range(1, SCALES[scale] + 1))}
     for n, scale in enumerate(["four"] * 20 + ["five"] * 19 + ["alone"])]
)  # fmt: skip


def draw_logs(seed, size=0.5):
    rng = np.random.default_rng(seed)
    return {item.question: rng.normal(0, size, len(item.codes)) for item in ITEMS.itertuples()}


def share(logs, **names):
    """Shares with these logarithms, up to a constant an item."""
    rows = []
    for question, log in logs.items():
        weights = np.exp(log) / np.exp(log).sum()
        rows += [{**names, "question": question, "code": code, "share": s} for code, s in enumerate(weights, start=1)]
    return pd.DataFrame(rows)


def answer(culture, stage, logs, **names):
    named = {"model": "m", "adapter": culture, "stage": stage, "language": "en", "persona": "none", "seed": 1, **names}
    return share(logs, **named)


CN, US = draw_logs(1), draw_logs(2)
HUMAN = pd.concat([share(CN, culture="cn"), share(US, culture="us")], ignore_index=True)


@pytest.fixture
def run(cfg):
    return config.Config(cfg.profile.model_copy(update={"controls": []}), cfg.root, cfg.data_dir)


def add(*parts):
    """Sums of (factor, logs), item by item."""
    return {q: sum(factor * logs[q] for factor, logs in parts) for q in ITEMS["question"]}


@pytest.mark.parametrize("amplitude", [1.0, 0.01])
@pytest.mark.parametrize("size", [0.5, -0.2, 0.02])
def test_a_planted_shift_is_recovered_whatever_the_model_s_amplitude(run, amplitude, size):
    base, aim = draw_logs(3, 0.3 * amplitude), add((1, CN), (-1, US))
    given = [answer("none", "zero_shot", base), answer("cn", "sft", add((1, base), (size, aim)))]
    row = slopes.measure_slopes(run, pd.concat(given), HUMAN, ITEMS).set_index(["culture", "stage"]).loc[("cn", "sft")]
    assert row[["value", "low", "high"]].tolist() == pytest.approx([size] * 3) and row["rank"] == pytest.approx(np.sign(size))
    assert row["n"] == 39, "the only item of its number of points says nothing"
    assert row["p"] < 0.01 and row["against"] == "zero_shot" and row["smallest"] == pytest.approx(0, abs=1e-6)


def test_a_small_consistent_shift_of_a_flat_model_shows_in_the_slope_and_hardly_in_the_distance(run):
    rng, aim = np.random.default_rng(4), add((1, CN), (-1, US))
    flat = draw_logs(5, 0.01)
    noise = {q: rng.normal(0, 0.02, len(log)) for q, log in flat.items()}
    given = pd.concat([answer("none", "zero_shot", flat), answer("cn", "sft", add((1, flat), (0.03, aim), (1, noise)))])
    row = slopes.measure_slopes(run, given, HUMAN, ITEMS).query("culture == 'cn' and stage == 'sft'").iloc[0]
    assert row["low"] > 0.02 and row["p"] < 0.01 and row["value"] == pytest.approx(0.03, abs=0.006)
    # The same sum by least squares through 0, over all options.
    both = [
        slopes.center_logs(frame, ITEMS, ["who"]).set_index(["question", "code"])["log"]
        for frame in (share(add((1, flat), (0.03, aim), (1, noise)), who="a"), share(flat, who="b"), *(HUMAN[HUMAN["culture"] == c].assign(who=c) for c in ("cn", "us")))
    ]  # fmt: skip
    change, along = both[0] - both[1], both[2] - both[3]
    assert row["value"] == pytest.approx(np.linalg.lstsq(along.to_numpy()[:, None], change.to_numpy(), rcond=None)[0][0])
    assert row["rank"] == pytest.approx(stats.spearmanr(change, along).statistic)
    assert row["low"] < row["value"] < row["high"] and 0 < row["smallest"] < row["value"]


def test_a_change_of_style_alone_is_no_shift(run):
    base, rng = draw_logs(6), np.random.default_rng(7)
    style = {scale: rng.normal(0, 1, points) for scale, points in SCALES.items()}
    told = {item.question: style[item.scale] for item in ITEMS.itertuples()}
    given = [answer("none", "zero_shot", add((0.3, base))), answer("cn", "sft", add((0.3, base), (0.4, told)))]
    row = slopes.measure_slopes(run, pd.concat(given), HUMAN, ITEMS).query("culture == 'cn'").iloc[0]
    assert row[["value", "low", "high"]].tolist() == pytest.approx([0, 0, 0], abs=1e-12) and row["p"] == 1
    # Before each scale's mean profile is removed it goes along people's difference.
    plain = sum((CN[q] - US[q] - (CN[q] - US[q]).mean()) @ told[q] for q in told)
    assert abs(plain) > 0.5


def test_chance_alone_gives_p_as_often_as_it_says(run):
    found = []
    for seed in range(40):
        base = draw_logs(100 + seed, 0.2)
        noise = draw_logs(200 + seed, 0.2)
        rows = slopes.measure_slopes(
            run, pd.concat([answer("none", "zero_shot", base), answer("cn", "sft", add((1, base), (1, noise)))]), HUMAN, ITEMS
        )
        found.append(rows.query("culture == 'cn'")["p"].item())
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_controls_are_bases_too_and_positive_controls_stay_out_of_the_correction(run):
    base, aim = draw_logs(8, 0.2), add((1, CN), (-1, US))
    moves = {"sft": 0.3, "control_shuffled": 0.1, "persona": 0.2, "survey_taught": 0.5}
    given = [answer("none", "zero_shot", base)]
    given += [
        answer("cn", stage, add((1, base), (size, aim), (1, draw_logs(30 + n, 0.05))))
        for n, (stage, size) in enumerate(moves.items())
    ]
    table = slopes.measure_slopes(run, pd.concat([*given, answer("us", "sft", base)]), HUMAN, ITEMS)
    own = table[table["culture"] == "cn"].set_index(["stage", "against"])["value"]
    assert own["sft", "control_shuffled"] == pytest.approx(0.2, abs=0.05)
    assert own["sft", "control_foreign"] == pytest.approx(own["sft", "zero_shot"]), "the other culture's adapter did not move"
    assert {s for s, against in own.index if against != "zero_shot"} == {"sft"}
    tested = table[~table["stage"].isin(["persona", "survey_taught"])]
    assert (
        table.loc[table["stage"].isin(["persona", "survey_taught"]), "p_holm"].isna().all() and tested["p_holm"].notna().all()
    )
    smallest = tested["p"].min()
    assert tested["p_holm"].min() == pytest.approx(len(tested) * smallest)


def test_the_reading_is_chosen_by_what_is_common_and_not_by_style(cfg):
    common, rng = add((0.5, CN), (0.5, US)), np.random.default_rng(9)
    style = {scale: 3 * np.arange(points) / points for scale, points in SCALES.items()}
    told = {item.question: style[item.scale] for item in ITEMS.itertuples()}
    # People have this style too: by it alone the first reading would agree best.
    human = pd.concat([share(add((1, logs), (1, told)), culture=name) for name, logs in (("cn", CN), ("us", US))])
    noise = {q: rng.normal(0, 0.5, len(log)) for q, log in CN.items()}
    readings = {
        "label": add((1, told), (0.2, noise)),
        "unlisted_sum": add((1, common), (1, noise)),
        "text_sum": add((-1, common)),
    }
    names = {"model": "m", "adapter": "none", "stage": "zero_shot", "language": "zh", "persona": "none", "seed": 1, "order": 0}
    given = pd.concat([share(logs, **names, readout=name) for name, logs in readings.items()]).rename(
        columns={"share": "probability"}
    )
    given = given.assign(place=given["code"])
    # An item that one reading leaves out is left out of all.
    given = given[~((given["readout"] == "text_sum") & (given["question"] == "Q3"))]
    table = slopes.compare_readings(given, human, ITEMS, **cfg.bootstrap).set_index("readout")
    assert table["chosen"].to_dict() == {"label": False, "unlisted_sum": True, "text_sum": False}
    assert table.loc["text_sum", "value"] == pytest.approx(-1, abs=0.05) and table.loc["unlisted_sum", "low"] > 0.3
    assert abs(table.loc["label", "value"]) < 0.2 and set(table["n"]) == {39}
    turned = pd.concat([human[human["culture"] == a].assign(culture=b) for a, b in (("cn", "us"), ("us", "cn"))])
    again = slopes.compare_readings(given, turned, ITEMS, **cfg.bootstrap).set_index("readout")
    assert again["value"].to_dict() == pytest.approx(table["value"].to_dict()), "no difference between countries enters"


def judge(cfg, **moves):
    """Verdicts on cn where each stage moves so far along the countries' difference; a value of us is its SFT adapter's."""
    base, aim = add((0.5, CN), (0.5, US)), add((1, CN), (-1, US))
    given = [answer("none", "zero_shot", base)]
    for number, (stage, size) in enumerate(moves.items()):
        state = ("us", "sft") if stage == "us" else ("cn", stage)
        given.append(answer(*state, add((1, base), (size, aim), (1, draw_logs(20 + number, 0.05)))))
    return judge_answers(cfg, given)


def judge_answers(cfg, given):
    averaged = pd.concat(given, ignore_index=True)
    halves = pd.concat([HUMAN.assign(half=half) for half in (1, 2)])
    far = distances.measure_distances(distances.add_references(averaged, HUMAN, halves), HUMAN, halves)
    moved = shifts.measure_shifts(cfg, far, ITEMS)
    table, against = shifts.summarise_shifts(moved, **cfg.bootstrap), shifts.compare_controls(moved, **cfg.bootstrap)
    told = verdicts.judge_verdicts(table, against, slopes.measure_slopes(cfg, averaged, HUMAN, ITEMS))
    return told[(told["culture"] == "cn") & (told["stage"] == "sft")].set_index("measure")


@pytest.mark.parametrize(
    ("moves", "verdict", "said"),
    [
        ({"sft": 0.3, "control_shuffled": 0.0, "us": 0.0, "persona": 0.1}, verdicts.BEYOND, "above control_shuffled, control_foreign"),
        ({"sft": 0.3, "control_shuffled": 0.0, "us": 0.0, "persona": 0.0}, verdicts.BEYOND, "above control_shuffled"),
        ({"sft": 0.3, "control_shuffled": 0.3, "us": 0.0, "survey_taught": 0.3}, verdicts.UNMOVED, "not above control_shuffled"),
        ({"sft": 0.0, "us": 0.0, "persona": 0.0, "survey_taught": 0.3}, verdicts.UNMOVED, "is not above 0"),
        ({"sft": 0.0, "us": 0.0, "persona": -0.2, "survey_taught": 0.0}, verdicts.BLIND, "is not above 0"),
        # A control that moves for certain, but too little to matter, shows no instrument that sees.
        ({"sft": 0.0, "us": 0.0, "persona": 0.0, "survey_taught": 0.03}, verdicts.BLIND, "survey_taught +0.0"),
        ({"sft": 0.0, "us": 0.0}, verdicts.BLIND, "best positive control none"),
        ({"sft": 0.3, "persona": 0.3}, verdicts.UNCONTROLLED, "above no control"),
        ({"sft": -0.3, "us": 0.0, "persona": 0.0}, verdicts.AWAY, "is not above 0"),
        ({"sft": -0.3, "us": 0.0, "survey_taught": 0.3}, verdicts.AWAY, "is not above 0"),
    ],
)  # fmt: skip
def test_verdicts_by_rule_on_both_measures(run, moves, verdict, said):
    found = judge(run, **moves)
    assert set(found["verdict"]) == {verdict} and list(found.index) == ["distance", "slope"]
    assert all(said in sentence and verdict in sentence for sentence in found["sentence"])
    assert (found["smallest"] > 0).all() and (found["smallest"] < 0.1).all()
    if moves.get("survey_taught") == 0.03:
        assert (found["control_low"] > 0).all()


def test_a_control_that_only_flattens_shows_no_instrument_that_sees(run):
    # Wild answers are far from everybody; flatter ones are nearer to both countries alike.
    wild = draw_logs(8, 2.0)
    given = [answer("none", "zero_shot", wild), answer("cn", "sft", add((1, wild), (1, draw_logs(20, 0.05))))]
    given += [answer("us", "sft", wild), answer("cn", "survey_taught", add((0.5, wild)))]
    distance = judge_answers(run, given).loc["distance"]
    assert distance["control"] == "survey_taught" and distance["control_low"] > verdicts.LEAST["distance"]
    assert distance["verdict"] == verdicts.BLIND


def test_a_move_that_holm_takes_back_says_so(run):
    given = [answer("none", "zero_shot", add((0.5, CN), (0.5, US))), answer("us", "sft", add((0.5, CN), (0.5, US)))]
    averaged = pd.concat([*given, answer("cn", "sft", add((0.5, CN), (0.5, US)))], ignore_index=True)
    halves = pd.concat([HUMAN.assign(half=half) for half in (1, 2)])
    far = distances.measure_distances(distances.add_references(averaged, HUMAN, halves), HUMAN, halves)
    table = shifts.summarise_shifts(shifts.measure_shifts(run, far, ITEMS), **run.bootstrap).assign(
        value=0.02, low=0.001, high=0.04, p_holm=0.3
    )
    moves = slopes.measure_slopes(run, averaged, HUMAN, ITEMS)
    found = verdicts.judge_verdicts(
        table, shifts.compare_controls(shifts.measure_shifts(run, far, ITEMS), **run.bootstrap), moves
    )
    told = found[found["measure"] == "distance"]["sentence"]
    assert len(told) and told.str.contains(re.escape("+0.020 [+0.001, +0.040] is above 0, but p = 0.30 after Holm")).all()
