"""Shifts, contrasts, controls and counts worked by hand, of one seed and of two, and the sentence that may or may not be said."""

import numpy as np
import pandas as pd
import pytest
from surveys import as_asked, make_answers

from align_utils import config, stats
from align_utils.config import stages
from align_utils.survey import aligned, distances, panels, paper, shifts, slopes, styles, verdicts
from align_utils.survey import items as survey_items
from align_utils.survey import map as culture_map
from align_utils.survey.human import Human, draw_choice, draw_halves, load_human

ITEMS = [f"Q{number}" for number in range(1, 41)]
TOPICS = pd.DataFrame({"question": ITEMS, "topic": ["odd", "even"] * 20, "text_en": "?"})
SCALED = TOPICS.assign(scale="two", codes=[[1, 2]] * 40)
SEEDS = (11, 7)


def list_people(shares):
    rows = [(q, c, code, s, 1000.0) for q, by in shares.items() for c, own in by.items() for code, s in enumerate(own, start=1)]
    return pd.DataFrame(rows, columns=["question", "culture", "code", "share", "n"])


HUMAN = list_people({q: {"us": [0.9, 1 - 0.9], "cn": [0.2, 0.8]} for q in ITEMS})
RANKED = pd.DataFrame({"question": ITEMS, "tension": 0.7, "chosen": True})


@pytest.fixture
def run(cfg):
    """The smoke run without controls, or with other fields."""

    def change(**fields):
        profile = cfg.profile.model_copy(update={"controls": [], "seed": SEEDS[0], **fields})
        return config.Config(profile, cfg.root, cfg.data_dir)

    return change


def answer(adapter, stage, shares, **names):
    """Share of the first option on every item (one for all); with two options the distance is the difference of these shares."""
    return make_answers(
        adapter, stage, {q: [p, 1 - p] for q, p in zip(ITEMS, np.broadcast_to(shares, 40), strict=True)}, **names
    )


def measure(cfg, *given, human=HUMAN, ranked=RANKED, pair=("us", "cn")):
    """As notebook 06: shifts and judged items."""
    halves = draw_halves(cfg, Human(human))
    everyone = distances.add_references(pd.concat(given), human, halves)
    far = distances.measure_distances(everyone, human, halves)
    topics = TOPICS[TOPICS["question"].isin(human["question"])]
    judged = aligned.judge_items(far, everyone, human, ranked, pair)
    return shifts.measure_shifts(cfg, far, topics), judged


def test_shift_contrast_and_references_worked_by_hand(run):
    found, _ = measure(run(), answer("none", "zero_shot", 0.5), answer("cn", "sft", 0.4))
    means = found[found["culture"] == "cn"].groupby(["stage", "toward"])["shift"].mean()
    # d(base, cn) = 0.3, d(sft, cn) = 0.2; d(base, us) = 0.4, d(sft, us) = 0.5.
    assert means["sft", "target"] == pytest.approx(0.1) and means["sft", "other"] == pytest.approx(-0.1)
    assert means["sft", "contrast"] == pytest.approx(0.2)
    assert means["uniform", "target"] == pytest.approx(0), "the untuned model answered evenly already"
    assert means["other_country", "target"] == pytest.approx(0.3 - 0.7)
    # Two halves of 500 differ by the mean size of a normal deviate with variance 2 p (1 - p) / 500.
    apart = np.sqrt(2 / np.pi) * np.sqrt(2 * 0.2 * 0.8 / 500)
    assert means["human_half", "target"] == pytest.approx(0.3 - apart, abs=0.006)
    assert ("other_country", "other") not in means.index
    assert set(found.loc[found["culture"] == "us", "stage"]) == {"control_foreign"}, "seen from there it is the other culture's"


def test_topics_and_items_worked_by_hand(run):
    cfg = run()
    found, _ = measure(cfg, answer("none", "zero_shot", 0.5), answer("cn", "ppo", np.tile([0.4, 0.5], 20)))
    topics = shifts.summarise_topics(found, **cfg.bootstrap)
    drawn = shifts.pick_topics(cfg, topics, stage="ppo").set_index(["label", "group"])
    assert drawn["value"].to_dict() == pytest.approx({("odd", "asked in en"): 0.1, ("even", "asked in en"): 0.0})
    assert set(drawn["n"]) == {20} and {"uniform", "other_country", "human_half"} < set(topics["stage"])
    wide = shifts.tabulate_items(found, TOPICS).set_index("question")
    assert wide.loc[["Q1", "Q2"], "cn ppo en"].tolist() == pytest.approx([0.1, 0.0])
    assert wide.loc["Q1", "cn other_country en"] == pytest.approx(0.3 - 0.7)


def test_what_flattens_moves_toward_both_and_has_no_contrast(run):
    cfg, start = (
        run(),
        np.random.default_rng(0).uniform(0.95, 1.0, 40),
    )  # beyond both countries: the way to the middle is toward both
    found, _ = measure(cfg, answer("none", "zero_shot", start), answer("cn", "ppo", start - 0.04))
    table = shifts.summarise_shifts(found, **cfg.bootstrap)
    row = table[table["stage"] == "ppo"].set_index("toward")
    # Every item moves by 0.04 toward cn, and toward us where the start is beyond us (0.9): by less where it lands on this side.
    assert row.loc["target", ["value", "low", "high"]].tolist() == pytest.approx([0.04] * 3)
    assert row.loc["contrast", "value"] == pytest.approx((2 * np.maximum(0, 0.9 - (start - 0.04))).mean())


def test_every_method_with_a_reward_is_held_against_every_control(run, cfg):
    assert set(stages.list_trained(cfg)) - {*cfg.profile.controls, stages.SAME_SIZE} == set(stages.TARGETS)
    rng = np.random.default_rng(1)
    given = [answer("none", "zero_shot", rng.uniform(0.45, 0.55, 40))]
    for culture, stage, move in (
        ("cn", "grpo", 0.1),
        ("cn", "ppo", 0.0),
        ("cn", "sft", 0.1),
        ("cn", "control_shuffled", 0.0),
        ("us", "sft", 0.02),
    ):
        given.append(answer(culture, stage, np.clip(rng.normal(0.5 - move, 0.02, 40), 0, 1)))
    few = run(stats=cfg.profile.stats.model_copy(update={"resamples": 20}))
    found, _ = measure(few, *given)
    controls = shifts.compare_controls(found, **few.bootstrap)
    over = controls[(controls["toward"] == "target") & (controls["culture"] == "cn")].set_index("comparison")
    expected = [f"{stage} - control_{control}" for stage in ("sft", "ppo", "grpo") for control in ("shuffled", "foreign")]
    assert list(over.index) == expected, "the other culture's adapter is a control wherever there is one"
    assert over.loc["grpo - control_shuffled", "value"] == pytest.approx(0.1, abs=0.02)
    assert over.loc["sft - control_foreign", "value"] == pytest.approx(0.08, abs=0.02) and set(over["n"]) == {40}
    # No p of 20 resamples is below 2 / 21, of one test alone.
    assert over.loc["sft - control_shuffled", "p_holm"] < 0.05


def test_power_agrees_with_published_figures_and_with_simulation(run):
    # G*Power 3.1, two dependent means, two-sided 5 %: d = 0.5 needs 34 pairs (0.808), d = 0.2 needs 199 (0.802).
    assert stats.find_power(0.5, 34) == pytest.approx(0.808, abs=5e-4) and stats.find_power(0.5, 33) < 0.8
    assert stats.find_power(0.2, 199) == pytest.approx(0.8017, abs=5e-4) and stats.find_power(0.2, 198) > 0.799
    assert stats.find_power(0, 20) == pytest.approx(stats.find_power(1e-6, 20)) == pytest.approx(0.05)
    draws = np.random.default_rng(0).normal(stats.find_smallest(2.0, 12), 2.0, size=(20000, 12))
    t = draws.mean(1) / (draws.std(1, ddof=1) / 12**0.5)
    assert np.mean(np.abs(t) > 2.201) == pytest.approx(0.8, abs=0.01)
    assert np.isnan(stats.find_smallest(1.0, 1)) and stats.find_smallest(0.0, 5) == 0
    start = np.linspace(0.3, 0.7, 40)
    found, _ = measure(run(), answer("none", "zero_shot", start), answer("cn", "sft", start - 0.1 * np.tile([0, 1], 20)))
    table = shifts.summarise_shifts(found, resamples=50, level=0.95, seed=0).set_index(["culture", "stage", "toward"])
    assert table.loc[("cn", "sft", "target"), "smallest"] == pytest.approx(
        stats.find_smallest(np.std([0, 0.1] * 20, ddof=1), 40)
    )


# Other cultures than two.


def among(cfg, **countries):
    """The run with cultures of these survey countries."""
    some = next(iter(cfg.cultures.values()))
    vars(cfg)["cultures"] = {n: some.model_copy(update={"name": n, "survey_country": c}) for n, c in countries.items()}
    return cfg


@pytest.mark.parametrize(
    ("countries", "pair"),
    [
        ({"us": "USA", "cn": "CHN"}, ("us", "cn")),
        ({"cn": "CHN", "us": "USA"}, ("us", "cn")),
        ({"us": "USA", "us2": "USA", "uk": "GBR", "cn": "CHN"}, ("us", "cn")),
        ({"rp": "ARG", "rp2": "ARG", "uk": "GBR"}, ("rp", "uk")),
        ({"us": "USA", "us2": "USA"}, None),
    ],
)
def test_china_is_compared_wherever_it_stands(run, countries, pair):
    assert distances.pick_pair(among(run(), **countries).cultures) == pair


def test_of_several_other_countries_an_item_counts_once(run):
    cfg = among(run(), us="USA", cn="CHN", uk="GBR", us2="USA")
    people = {"us": 0.9, "cn": 0.2, "uk": 0.6, "us2": 0.9}
    human = list_people({q: {name: [share, 1 - share] for name, share in people.items()} for q in ITEMS})
    given = [answer("none", "zero_shot", 0.5), answer("us", "sft", 0.7), answer("us", "control_shuffled", 0.5)]
    found, _ = measure(cfg, *given, human=human)
    table, controls = shifts.summarise_shifts(found, **cfg.bootstrap), shifts.compare_controls(found, **cfg.bootstrap)
    assert set(table["n"]) == set(controls["n"]) == {40}
    # Away from cn by 0.2, at uk's 0.6 as far beyond as before below it; us2 asked the same people, so it is no other country.
    sft = table[table["stage"] == "sft"].set_index("toward")["value"]
    assert sft[["target", "other", "contrast"]].tolist() == pytest.approx([0.2, -0.1, 0.3])
    assert controls.set_index("toward")["value"].to_dict() == pytest.approx({"target": 0.2, "other": -0.1, "contrast": 0.3})
    other = table[(table["stage"] == "other_country") & (table["toward"] == "target")]["value"]
    assert other.tolist() == pytest.approx([((0.4 - 0.7) + (0.4 - 0.3)) / 2])


def test_cultures_of_one_country_have_shifts_and_no_comparison_of_countries(run):
    cfg = among(run(), us="USA", us2="USA")
    human = list_people({q: {"us": [0.9, 0.1], "us2": [0.9, 0.1]} for q in ITEMS})
    given = [answer("us", "sft", 0.7), answer("us", "control_other_culture", 0.5)]
    ranked = distances.rank_items(human, None, wanted=50)
    found, judged = measure(cfg, answer("none", "zero_shot", 0.5), *given, human=human, ranked=ranked, pair=None)
    table, controls = shifts.summarise_shifts(found, **cfg.bootstrap), shifts.compare_controls(found, **cfg.bootstrap)
    assert set(table["toward"]) == {"target"} and len(controls) == 1 and len(ranked) == len(judged) == 0
    none = slopes.measure_slopes(cfg, pd.concat([answer("none", "zero_shot", 0.5), *given]), human, SCALED)
    judgement = verdicts.judge_verdicts(table, controls, none)
    assert none.empty and judgement["verdict"].tolist() == [verdicts.UNCONTROLLED]
    counts = aligned.count_aligned(judged, **cfg.bootstrap)
    assert counts.empty and {"count", "p_holm"} <= set(counts) and len(aligned.summarise_seeds(found, judged))
    names = {record["metric"] for record in paper.record_survey(cfg, table, controls, counts)}
    assert names == {"shift_toward_target", "shift_over_control"}
    assert draw_choice(cfg, Human(human), None).empty


# Counts. Three items of three points: the countries' modes differ on Q1 and Q2 and are the same on Q3.

THREE = list_people({
    "Q1": {"us": [0.8, 0.1, 0.1], "cn": [0.1, 0.1, 0.8]}, "Q2": {"us": [0.7, 0.2, 0.1], "cn": [0.1, 0.5, 0.4]},
    "Q3": {"us": [0.5, 0.1, 0.4], "cn": [0.9, 0.1, 0.0]},
})  # fmt: skip
EVEN = dict.fromkeys(["Q1", "Q2", "Q3"], [1 / 3] * 3)


def count(cfg, *given):
    _, judged = measure(cfg, *given, human=THREE, ranked=RANKED.head(3))
    return aligned.count_aligned(judged, **cfg.bootstrap).set_index(["reading", "culture", "stage"])


def test_two_readings_worked_by_hand(cfg):
    base = {"Q1": [0.8, 0.1, 0.1], "Q2": [0.6, 0.3, 0.1], "Q3": [0.5, 0.1, 0.4]}
    # Q1: nearer to cn and its mode; Q2: a tie of two options is no mode, though nearer to cn; Q3: mode of both, nearer to us.
    tuned = {"Q1": [0.1, 0.2, 0.7], "Q2": [0.1, 0.45, 0.45], "Q3": [0.5, 0.1, 0.4]}
    table = count(cfg, make_answers("none", "zero_shot", base), make_answers("cn", "ppo", tuned))
    assert table.loc[("nearer", "cn", "ppo"), ["count", "n", "gained", "lost", "p"]].tolist() == [2, 3, 2, 0, 0.5]
    assert table.loc[("mode", "cn", "ppo"), ["count", "n", "shared", "gained", "lost", "p"]].tolist() == [2, 3, 1, 1, 0, 1.0]
    assert table.loc[("nearer", "none", "zero_shot"), "count"] == 0 and table.loc[("mode", "none", "zero_shot"), "count"] == 1
    assert np.isnan(table.loc[("nearer", "none", "zero_shot"), "p"]), "the untuned model is not tested against itself"


def test_references_stand_where_they_must(cfg):
    table = count(cfg, make_answers("none", "zero_shot", EVEN), make_answers("cn", "sft", EVEN))
    for people in ("human", "human_half"):
        assert table.loc[("nearer", "cn", people), "count"] == 3 and table.loc[("nearer", "us", people), "count"] == 0
        assert table.loc[("mode", "cn", people), "count"] == 3 and table.loc[("mode", "us", people), "count"] == 1
    for reading in ("nearer", "mode"):  # the model answers evenly, so it is the uniform answerer
        assert table.loc[(reading, "none", "uniform"), "count"] == table.loc[(reading, "none", "zero_shot"), "count"]
    assert table.loc[("mode", "none", "uniform"), "count"] == 0, "an even answer has no mode"


# Two seeds. Worked by hand: untuned 0.6 (0.4 from cn, 0.3 from us). SFT moves all items to 0.4 with one seed and ten of forty with
# the other; the control moves none with one seed, and all to 0.5 with the other.

MADE = [("none", "zero_shot", 0.6, SEEDS[0]), ("cn", "sft", 0.4, SEEDS[0]), ("cn", "sft", [0.4] * 10 + [0.6] * 30, SEEDS[1]),
        ("cn", "control_shuffled", 0.6, SEEDS[0]), ("cn", "control_shuffled", 0.5, SEEDS[1])]  # fmt: skip
GIVEN = pd.concat([answer(*state, language="zh", seed=seed) for *state, seed in MADE])


def test_the_spread_over_two_seeds_worked_by_hand(run):
    cfg = run(seeds=[SEEDS[1]])
    table = aligned.summarise_seeds(*measure(cfg, GIVEN)).set_index(["measure", "stage"])
    expected = {
        ("shift toward target", "sft"): (0.2, 0.05), ("shift toward target", "control_shuffled"): (0.0, 0.1),
        ("contrast", "sft"): (0.4, 0.1), ("shift above shuffled", "sft"): (0.2, -0.05),
        ("aligned by nearer", "sft"): (1.0, 0.25), ("aligned by nearer", "control_shuffled"): (0.0, 1.0),
    }  # fmt: skip
    for key, pair in expected.items():
        row = [*pair, np.mean(pair), abs(pair[0] - pair[1]) / 2**0.5, 2]
        columns = [*(f"seed {seed}" for seed in SEEDS), "mean", "sd", "seeds"]
        assert table.loc[key, columns].astype(float).tolist() == pytest.approx(row), key
    shown = {"sft", "control_shuffled", "control_foreign"}
    assert set(table.index.get_level_values("stage")) == shown and set(table["note"]) == {""}
    once = GIVEN[(GIVEN["stage"] != "control_shuffled") | (GIVEN["seed"] == SEEDS[0])]
    beside = aligned.summarise_seeds(*measure(cfg, once)).set_index(["measure", "stage"]).loc[("shift above shuffled", "sft")]
    assert beside[[f"seed {seed}" for seed in SEEDS]].tolist() == pytest.approx([0.2, 0.05]), "one control beside every seed"
    alone = aligned.summarise_seeds(*measure(cfg, GIVEN[GIVEN["seed"] == SEEDS[0]]))
    assert set(alone["note"]) == {stats.ALONE} and alone["sd"].isna().all() and (alone["seeds"] == 1).all()


def test_intervals_hold_both_seeds(run):
    cfg = run(seeds=[SEEDS[1]], stats=run().profile.stats.model_copy(update={"resamples": 2000}))
    moved, judged = measure(cfg, GIVEN)
    table, controls = shifts.summarise_shifts(moved, **cfg.bootstrap), shifts.compare_controls(moved, **cfg.bootstrap)
    counts = aligned.count_aligned(judged, **cfg.bootstrap)
    both = pd.concat([
        GIVEN.assign(order=order, place=GIVEN["code"] if order == 0 else 3 - GIVEN["code"]) for order in (0, 1)
    ]).rename(columns={"share": "probability"})  # fmt: skip
    far = distances.summarise_distances(both, HUMAN, draw_halves(cfg, Human(HUMAN)), **cfg.bootstrap).query(
        "orders == 'all' and to == 'cn'"
    )
    far, counted = far.set_index("stage"), counts.set_index(["reading", "culture", "stage"])
    shift, above = table.set_index(["stage", "toward"]).loc[("sft", "target")], controls.set_index("toward").loc["target"]
    count = counted.loc[("nearer", "cn", "sft")]
    # A quarter of the draws takes one seed twice: each interval reaches from one seed's mean to the other's.
    for row, ends in ((shift, (0.05, 0.2)), (above, (-0.05, 0.2)), (count, (0.25, 1.0)), (far.loc["sft"], (0.2, 0.35))):
        assert row["value"] == pytest.approx(np.mean(ends)) and row["n"] == 40
        assert row["low"] <= ends[0] + 0.01 and row["high"] >= ends[1] - 0.01, "items alone would be narrower"
    assert count[["count", "gained", "lost", "shared"]].tolist() == [25, 25, 0, 0] and count["p"] < 0.01
    assert far.loc["zero_shot", ["value", "low", "high"]].tolist() == pytest.approx([0.4] * 3)
    assert counted.loc[("nearer", "none", "zero_shot"), "count"] == 0 and np.isnan(counted.loc[("nearer", "cn", "human"), "p"])
    metrics = pd.DataFrame(paper.record_survey(cfg, table, controls, counts))
    tested = metrics[metrics["unit"] == "p"].groupby("stage")["method"].agg(set)
    assert tested["sft"] == {"random signs"} and tested["control_shuffled"] == {"exact McNemar"}, "a control has one training"


def test_styles_and_map_take_the_mean_over_seeds(cfg):
    items = survey_items.choose_items(cfg)
    human, rng = load_human(cfg, items).shares, np.random.default_rng(0)
    states = [("none", "zero_shot", SEEDS[0]), ("cn", "sft", SEEDS[0]), ("cn", "sft", SEEDS[1])]
    drawn = [
        {
            item.question: dict(zip(item.codes, rng.dirichlet(np.ones(len(item.codes))), strict=True))
            for item in items.itertuples()
        }
        for _ in states
    ]
    given = [make_answers(a, s, one, language="zh", seed=seed) for (a, s, seed), one in zip(states, drawn, strict=True)]
    axes = culture_map.load_axes(cfg.root / "data" / "survey")
    ranked = distances.rank_items(human, ("us", "cn"), wanted=5)
    made = {
        "style": lambda frame: styles.summarise_styles(styles.score_styles(frame, items), **cfg.bootstrap),
        "axis": lambda frame: culture_map.summarise_map(culture_map.score_components(axes, frame), **cfg.bootstrap),
        "place": lambda frame: panels.list_panels(
            cfg, as_asked(frame, model="tiny"), human, items, ranked["question"].head(5), culture="cn"
        ),
    }
    for name, make in made.items():
        numbers = ["share"] if name == "place" else ["value", *(["move", "items"] if name == "axis" else []), "n"]
        frames = (pd.concat(given), pd.concat(given[:2]), pd.concat([given[0], given[2]]))
        both, *each = (make(frame)[numbers].to_numpy(dtype=float) for frame in frames)
        np.testing.assert_allclose(both, np.mean(each, axis=0), atol=1e-12, err_msg=name)
        assert not np.allclose(*each, equal_nan=True), "the seeds differ"
