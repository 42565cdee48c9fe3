"""Shifts, contrasts and controls worked by hand, and the sentence that may or may not be said."""

import numpy as np
import pandas as pd
import pytest

from align_utils.config import stages
from align_utils.survey import distances, shifts
from align_utils.survey.human import Human, draw_halves

ITEMS = [f"Q{number}" for number in range(1, 41)]
TOPICS = pd.DataFrame({"question": ITEMS, "topic": ["odd", "even"] * 20, "text_en": "?"})
HUMAN = pd.DataFrame(
    [(q, c, code, s, 1000.0) for q in ITEMS for c, p in (("us", 0.9), ("cn", 0.2)) for code, s in ((1, p), (2, 1 - p))],
    columns=["question", "culture", "code", "share", "n"],
)


def answer(adapter, stage, shares, *, seed=None):
    """Share of the first option on every item; with two options the distance is the difference of these shares."""
    names = {"model": "m", "adapter": adapter, "stage": stage, "language": "en", "persona": "none"}
    names |= {} if seed is None else {"seed": seed}
    return pd.DataFrame(
        [
            {**names, "question": q, "code": code, "share": s}
            for q, p in zip(ITEMS, shares, strict=True)
            for code, s in ((1, p), (2, 1 - p))
        ]
    )


def measure(*answers):
    halves = draw_halves(CFG[0], Human(HUMAN))
    everyone = distances.add_references(pd.concat(answers), HUMAN, halves)
    found = distances.measure_distances(everyone, HUMAN, halves)
    return shifts.measure_shifts(CFG[0], found, TOPICS)


def summarise(found):
    return shifts.summarise_shifts(found, **CFG[0].bootstrap)


def compare(found):
    return shifts.compare_controls(found, **CFG[0].bootstrap)


CFG = []


@pytest.fixture(autouse=True)
def keep_cfg(cfg):
    # Many resamples for the intervals.
    stats = cfg.profile.stats.model_copy(update={"resamples": 2000})
    other = type(cfg)(cfg.profile.model_copy(update={"stats": stats, "controls": []}), cfg.root, cfg.data_dir)
    CFG[:] = [other]


def test_shift_contrast_and_references_worked_by_hand():
    found = measure(answer("none", "zero_shot", [0.5] * 40), answer("cn", "sft", [0.4] * 40))
    means = found.groupby(["stage", "toward"])["shift"].mean()
    # d(base, cn) = 0.3, d(sft, cn) = 0.2; d(base, us) = 0.4, d(sft, us) = 0.5.
    assert means["sft", "target"] == pytest.approx(0.1) and means["sft", "other"] == pytest.approx(-0.1)
    assert means["sft", "contrast"] == pytest.approx(0.2)
    assert means["uniform", "target"] == pytest.approx(0), "the untuned model answered evenly already"
    assert means["other_country", "target"] == pytest.approx(0.3 - 0.7)
    # Two halves of 500 differ by the mean size of a normal deviate with variance 2 p (1 - p) / 500.
    apart = np.sqrt(2 / np.pi) * np.sqrt(2 * 0.2 * 0.8 / 500)
    assert means["human_half", "target"] == pytest.approx(0.3 - apart, abs=0.006)
    assert set(found["culture"]) == {"cn"} and ("other_country", "other") not in means.index


def test_personas_are_told_apart_in_every_table():
    def both(*parts):
        told = [part.assign(persona="cn") for part in parts]
        return [*parts, *told]

    # Without a persona nothing moves; with one the tuned model goes 0.1 toward cn.
    found = measure(
        *both(answer("none", "zero_shot", [0.5] * 40)), answer("cn", "ppo", [0.5] * 40),
        answer("cn", "ppo", [0.4] * 40).assign(persona="cn"),
    )  # fmt: skip
    table = summarise(found).query("stage == 'ppo' and toward == 'target'").set_index("persona")["value"]
    assert table.to_dict() == pytest.approx({"none": 0.0, "cn": 0.1})
    topics = shifts.summarise_topics(found, **CFG[0].bootstrap)
    drawn = shifts.pick_topics(CFG[0], topics, stage="ppo").set_index(["label", "group"])
    assert drawn["value"].to_dict() == pytest.approx({
        (topic, f"asked in en, persona {persona}"): shift for topic in ("odd", "even") for persona, shift in (("none", 0.0), ("cn", 0.1))
    })  # fmt: skip
    assert set(drawn["n"]) == {20} and {"uniform", "other_country", "human_half"} < set(topics["stage"])
    wide = shifts.tabulate_items(found, TOPICS).set_index("question")
    assert wide.loc["Q1", ["cn ppo en none", "cn ppo en cn"]].tolist() == pytest.approx([0.0, 0.1])
    assert wide.loc["Q1", "cn other_country en cn"] == pytest.approx(0.3 - 0.7)
    claims = shifts.state_claims(summarise(found), compare(found))
    assert claims["persona"].tolist() == ["none", "cn"] and "persona cn" in claims["sentence"].iloc[1]


def test_what_flattens_moves_toward_both_and_has_no_contrast():
    rng = np.random.default_rng(0)
    start = rng.uniform(0.95, 1.0, 40)  # beyond both countries: the way to the middle is toward both
    found = measure(answer("none", "zero_shot", start), answer("cn", "ppo", start - 0.04))
    table = summarise(found)
    row = table[table["stage"] == "ppo"].set_index("toward")
    # Every item moves by 0.04 toward cn, and toward us where the start is beyond us (0.9): by less where it lands on this side.
    assert row.loc["target", ["value", "low", "high"]].tolist() == pytest.approx([0.04] * 3)
    back = np.maximum(0, 0.9 - (start - 0.04))
    assert row.loc["contrast", "value"] == pytest.approx((2 * back).mean())
    claims = shifts.state_claims(table, compare(found))
    assert claims["claimed"].tolist() == ["cannot be claimed"]


def claim(*tuned, n_seed=1):
    rng = np.random.default_rng(n_seed)
    base = [answer("none", "zero_shot", rng.uniform(0.45, 0.55, 40))]
    found = measure(*base, *[answer(a, s, np.clip(rng.normal(0.5 - move, 0.02, 40), 0, 1)) for a, s, move in tuned])
    controls = compare(found)
    return shifts.state_claims(summarise(found), controls).set_index("stage"), controls


def test_the_sentence_is_said_only_above_every_control():
    two = [("cn", "control_shuffled", 0.0), ("cn", "control_other_culture", 0.02)]
    said, controls = claim(("cn", "sft", 0.1), *two)
    assert said.loc["sft", "claimed"] == "yes" and "these norms move the answers: +0.1" in said.loc["sft", "sentence"]
    row = controls.set_index(["toward", "comparison"]).loc[("target", "sft - control_other_culture")]
    assert row["value"] == pytest.approx(0.08, abs=0.02) and row["n"] == 40
    assert row["p"] <= row["p_holm"] <= 2 * row["p"] + 1e-12, "two tests toward the target"
    said, _ = claim(("cn", "sft", 0.1), ("cn", "control_shuffled", 0.1), ("cn", "control_other_culture", 0.0))
    assert said.loc["sft", "claimed"] == "no"
    assert "not above control_shuffled" in said.loc["sft", "sentence"] and "other_culture" not in said.loc["sft", "sentence"]
    said, _ = claim(("cn", "sft", 0.1), ("cn", "control_shuffled", 0.0))
    assert said.loc["sft", "claimed"] == "pairings alone" and "these norms" not in said.loc["sft", "sentence"]
    assert "these pairings of cue and response move the answers: +0.1" in said.loc["sft", "sentence"]
    said, _ = claim(("cn", "sft", -0.1), ("cn", "control_shuffled", -0.3))
    assert said.loc["sft", "claimed"] == "no", "above the control, yet away from the target"
    said, _ = claim(("cn", "sft", 0.1))
    assert said.loc["sft", "claimed"] == "cannot be claimed" and "no adapter trained alike" in said.loc["sft", "sentence"]


def test_p_of_random_signs_can_pass_holm_whatever_the_resamples(cfg):
    # No p of 20 resamples is below 2 / 21, of one test alone.
    few = CFG[0].profile.model_copy(update={"stats": cfg.profile.stats.model_copy(update={"resamples": 20})})
    CFG[:] = [type(cfg)(few, cfg.root, cfg.data_dir)]
    said, controls = claim(("cn", "sft", 0.1), ("cn", "control_shuffled", 0.0), ("cn", "control_other_culture", 0.0))
    assert controls.loc[controls["toward"] == "target", "p_holm"].max() < 0.05 and said.loc["sft", "claimed"] == "yes"


def test_every_method_with_a_reward_is_held_against_the_controls_and_claimed_on(cfg):
    assert [stage for stage in stages.list_trained(cfg) if not stage.startswith("control_")] == list(stages.TARGETS)
    tuned = [("cn", "grpo", 0.1), ("cn", "ppo", 0.0), ("cn", "sft", 0.1), ("cn", "control_shuffled", 0.0)]
    said, controls = claim(*tuned)
    over = controls[controls["toward"] == "target"].set_index("comparison")["value"]
    assert list(over.index) == [f"{stage} - control_shuffled" for stage in ("sft", "ppo", "grpo")]
    assert over["grpo - control_shuffled"] == pytest.approx(0.1, abs=0.02)
    assert said["claimed"].to_dict() == {"sft": "pairings alone", "ppo": "no", "grpo": "pairings alone"}
    assert "not as GRPO" in said.loc["grpo", "sentence"] and "trained as long" not in said.loc["sft", "sentence"]


def test_the_foreign_adapter_is_shown_but_does_not_carry_the_claim_alone(cfg):
    profile = CFG[0].profile.model_copy(update={"controls": ["control_foreign"]})
    CFG[:] = [type(cfg)(profile, cfg.root, cfg.data_dir)]
    said, controls = claim(("cn", "sft", 0.1), ("us", "sft", 0.0))
    found = controls[(controls["culture"] == "cn") & (controls["toward"] == "target")]
    assert found["comparison"].tolist() == ["sft - control_foreign"] and found["value"].iloc[0] == pytest.approx(0.1, abs=0.02)
    assert set(said["claimed"]) == {"cannot be claimed"}
    said, _ = claim(("cn", "sft", 0.1), ("cn", "control_shuffled", 0.0), ("us", "sft", 0.0))
    assert said.loc[said["culture"] == "cn", "claimed"].to_dict() == {"sft": "yes"}, (
        "it is a wrong culture's beside the shuffled one"
    )


def test_seeds_are_a_second_level():
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.01, 40)
    tuned = [answer("cn", "sft", 0.4 + noise + move, seed=seed) for seed, move in ((1, 0.0), (2, 0.08))]
    table = summarise(measure(answer("none", "zero_shot", [0.5] * 40, seed=1), *tuned))
    row = table[(table["stage"] == "sft") & (table["toward"] == "target")].iloc[0]
    assert row["value"] == pytest.approx(0.06, abs=0.01) and row["n"] == 40
    assert row["high"] - row["low"] > 0.06, "two runs that disagree make a wide interval"


def test_power_agrees_with_published_figures_and_with_simulation():
    # G*Power 3.1, two dependent means, two-sided 5 %: d = 0.5 needs 34 pairs (0.808), d = 0.2 needs 199 (0.802).
    assert shifts.find_power(0.5, 34) == pytest.approx(0.808, abs=5e-4) and shifts.find_power(0.5, 33) < 0.8
    assert shifts.find_power(0.2, 199) == pytest.approx(0.8017, abs=5e-4) and shifts.find_power(0.2, 198) > 0.799
    assert shifts.find_power(0, 20) == pytest.approx(shifts.find_power(1e-6, 20)) == pytest.approx(0.05)
    draws = np.random.default_rng(0).normal(shifts.find_smallest(2.0, 12), 2.0, size=(20000, 12))
    t = draws.mean(1) / (draws.std(1, ddof=1) / 12**0.5)
    assert np.mean(np.abs(t) > 2.201) == pytest.approx(0.8, abs=0.01)
    assert np.isnan(shifts.find_smallest(1.0, 1)) and shifts.find_smallest(0.0, 5) == 0


def test_power_is_told_of_the_spread_over_items():
    start = np.linspace(0.3, 0.7, 40)
    found = measure(answer("none", "zero_shot", start), answer("cn", "sft", start - 0.1 * np.tile([0, 1], 20)))
    row = shifts.summarise_power(found, size=10).set_index("toward").loc["target"]
    assert row["sd"] == pytest.approx(np.std([0, 0.1] * 20, ddof=1)) and row["n"] == 40
    assert row["smallest"] == pytest.approx(shifts.find_smallest(row["sd"], 40)) and row["smallest_of_size"] > row["smallest"]
