"""Several seeds in the tables of 06: the summaries hold both items and seeds."""

import numpy as np
import pandas as pd
import pytest

from align_utils import stats
from align_utils.survey import aligned, answers, paper, shifts, styles
from align_utils.survey import distances as survey_distances
from align_utils.survey import items as survey_items
from align_utils.survey import map as culture_map
from align_utils.survey.human import Human, draw_halves, load_human

ITEMS = [f"Q{number}" for number in range(1, 41)]
HUMAN = pd.DataFrame(
    [(q, c, code, s, 1000.0) for q in ITEMS for c, p in (("us", 0.9), ("cn", 0.2)) for code, s in ((1, p), (2, 1 - p))],
    columns=["question", "culture", "code", "share", "n"],
)
RANKED = pd.DataFrame({"question": ITEMS, "tension": 0.7, "chosen": True})
FIRST, SECOND = 11, 7


def change(cfg, **fields):
    stats = cfg.profile.stats.model_copy(update={"resamples": 2000})
    return type(cfg)(cfg.profile.model_copy(update={"stats": stats, **fields}), cfg.root, cfg.data_dir)


def answer(adapter, stage, shares, *, seed):
    """Both orders of a question of two options; with two options the distance is the difference of the first one's shares."""
    names = {"model": "m", "adapter": adapter, "stage": stage, "language": "zh", "persona": "none", "seed": seed}
    return pd.DataFrame([
        {**names, "question": q, "order": order, "place": place, "code": code, "probability": s}
        for q, p in zip(ITEMS, shares, strict=True)
        for order in (0, 1)
        for code, s, place in ((1, p, 1 + order), (2, 1 - p, 2 - order))
    ])  # fmt: skip


# Worked by hand: untuned 0.6 (0.4 from cn, 0.3 from us). SFT moves all items to 0.4 with one seed and ten of forty with the
# other; the control moves none with one seed, and all to 0.5 with the other.
GIVEN = pd.concat([
    answer("none", "zero_shot", [0.6] * 40, seed=FIRST),
    answer("cn", "sft", [0.4] * 40, seed=FIRST), answer("cn", "sft", [0.4] * 10 + [0.6] * 30, seed=SECOND),
    answer("cn", "control_shuffled", [0.6] * 40, seed=FIRST), answer("cn", "control_shuffled", [0.5] * 40, seed=SECOND),
])  # fmt: skip


def analyse(cfg, given):
    """As notebook 06: (moved, judged)."""
    halves = draw_halves(cfg, Human(HUMAN))
    everyone = survey_distances.add_references(answers.average_orders(given), HUMAN, halves)
    distances = survey_distances.measure_distances(everyone, HUMAN, halves)
    moved = shifts.measure_shifts(cfg, distances, pd.DataFrame({"question": ITEMS, "topic": "t"}))
    return moved, aligned.judge_items(distances, everyone, HUMAN, RANKED, toward="cn", away="us")


def test_the_spread_over_two_seeds_worked_by_hand(cfg):
    cfg = change(cfg, seed=FIRST, seeds=[SECOND], controls=[])
    table = aligned.summarise_seeds(*analyse(cfg, GIVEN)).set_index(["measure", "stage"])
    columns = [f"seed {FIRST}", f"seed {SECOND}", "mean", "sd", "seeds"]
    expected = {
        ("shift toward target", "sft"): (0.2, 0.05), ("shift toward target", "control_shuffled"): (0.0, 0.1),
        ("contrast", "sft"): (0.4, 0.1), ("shift above shuffled", "sft"): (0.2, -0.05),
        ("aligned by nearer", "sft"): (1.0, 0.25), ("aligned by nearer", "control_shuffled"): (0.0, 1.0),
    }  # fmt: skip
    for key, pair in expected.items():
        row = [*pair, np.mean(pair), abs(pair[0] - pair[1]) / 2**0.5, 2]
        assert table.loc[key, columns].astype(float).tolist() == pytest.approx(row), key
    assert set(table.index.get_level_values("stage")) == {"sft", "control_shuffled"} and set(table["note"]) == {""}
    fewer = GIVEN[(GIVEN["stage"] != "control_shuffled") | (GIVEN["seed"] == FIRST)]
    row = aligned.summarise_seeds(*analyse(cfg, fewer)).set_index("measure").loc["shift above shuffled"]
    assert row["note"] == "seeds: 2 of sft, 1 of control_shuffled; compared within a seed"
    assert row["seeds"] == 1 and row["mean"] == pytest.approx(0.2) and np.isnan(row["sd"])


def test_intervals_hold_both_seeds(cfg):
    cfg = change(cfg, seed=FIRST, seeds=[SECOND], controls=[])
    moved, judged = analyse(cfg, GIVEN)
    table, controls = shifts.summarise_shifts(moved, **cfg.bootstrap), shifts.compare_controls(moved, **cfg.bootstrap)
    shift = table.set_index(["stage", "toward"]).loc[("sft", "target")]
    above = controls.set_index("toward").loc["target"]
    counts = aligned.count_aligned(judged, **cfg.bootstrap).set_index(["reading", "culture", "stage"])
    halves = draw_halves(cfg, Human(HUMAN))
    far = (
        survey_distances.summarise_distances(cfg, GIVEN, HUMAN, halves)
        .query("orders == 'all' and to == 'cn'")
        .set_index("stage")
    )
    count = counts.loc[("nearer", "cn", "sft")]
    # A quarter of the draws takes one seed twice: each interval reaches from one seed's mean to the other's.
    for row, ends in ((shift, (0.05, 0.2)), (above, (-0.05, 0.2)), (count, (0.25, 1.0)), (far.loc["sft"], (0.2, 0.35))):
        assert row["value"] == pytest.approx(np.mean(ends)) and row["n"] == 40
        assert row["low"] <= ends[0] + 0.01 and row["high"] >= ends[1] - 0.01, "items alone would be narrower"
    assert count[["count", "gained", "lost", "shared"]].tolist() == [25, 25, 0, 0] and count["p"] < 0.01
    assert far.loc["zero_shot", ["value", "low", "high"]].tolist() == pytest.approx([0.4] * 3)
    assert counts.loc[("nearer", "none", "zero_shot"), "count"] == 0 and np.isnan(counts.loc[("nearer", "cn", "human"), "p"])
    metrics = pd.DataFrame(paper.list_survey_metrics(cfg, table, controls, counts.reset_index()))
    assert set(metrics.loc[metrics["unit"] == "p", "method"]) == {"random signs"}


def test_one_seed_gives_the_tables_of_no_seed_at_all(cfg):
    cfg = change(cfg, seed=FIRST, controls=[])
    rng = np.random.default_rng(0)
    states = [("none", "zero_shot"), ("cn", "sft"), ("us", "sft"), ("cn", "control_shuffled")]
    given = pd.concat([answer(*state, rng.uniform(0.3, 0.7, 40), seed=FIRST) for state in states])
    halves = draw_halves(cfg, Human(HUMAN))
    made = []
    for frame in (given, given.drop(columns="seed")):
        moved, judged = analyse(cfg, frame)
        made.append([
            shifts.summarise_shifts(moved, **cfg.bootstrap), shifts.compare_controls(moved, **cfg.bootstrap), aligned.count_aligned(judged, **cfg.bootstrap),
            survey_distances.summarise_distances(cfg, frame, HUMAN, halves),
        ])  # fmt: skip
    for one, none in zip(*made, strict=True):
        pd.testing.assert_frame_equal(one, none, check_exact=True)
    table = aligned.summarise_seeds(*analyse(cfg, given))
    assert set(table["note"]) == {stats.ALONE} and table["sd"].isna().all() and (table["seeds"] == 1).all()
    assert table["mean"].equals(table[f"seed {FIRST}"].rename("mean"))


def test_styles_and_map_take_the_mean_over_seeds(cfg):
    items = survey_items.choose_items(cfg)
    people = load_human(cfg, items)
    human = people.shares
    rng = np.random.default_rng(0)
    names = [("none", "zero_shot", FIRST), ("cn", "sft", FIRST), ("cn", "sft", SECOND)]
    averaged = pd.DataFrame([
        {"model": "m", "adapter": a, "stage": s, "language": "zh", "persona": "none", "seed": seed, "question": item.question,
         "code": code, "share": share}
        for a, s, seed in names for item in items.itertuples()
        for code, share in zip(item.codes, rng.dirichlet(np.ones(len(item.codes))), strict=True)
    ])  # fmt: skip
    axes = culture_map.load_axes(cfg.root / "data" / "survey")
    ranked = survey_distances.rank_items(human, "us", "cn", wanted=5)
    alone = [averaged[averaged["seed"] == FIRST], averaged[(averaged["stage"] == "zero_shot") | (averaged["seed"] == SECOND)]]
    made = {
        "style": lambda frame: styles.summarise_styles(styles.score_styles(frame, items), **cfg.bootstrap),
        "axis": lambda frame: culture_map.summarise_map(culture_map.score_components(axes, frame), **cfg.bootstrap),
        "place": lambda frame: aligned.list_panels(frame, human, items, ranked, culture="cn", language="zh"),
    }
    for name, make in made.items():
        numbers = ["share"] if name == "place" else ["value", *(["move", "items"] if name == "axis" else []), "n"]
        both, *each = (make(frame)[numbers].to_numpy(dtype=float) for frame in (averaged, *alone))
        np.testing.assert_allclose(both, np.mean(each, axis=0), atol=1e-12, err_msg=name)
        assert not np.allclose(*each, equal_nan=True), "the seeds differ"
