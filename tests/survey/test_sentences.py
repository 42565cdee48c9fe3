"""What notebooks 05 and 06 say of the survey, from metric records."""

import pytest

from align_utils.survey import sentences


def record(metric, value, stage="sft", culture="us", language="en", *, model="tiny", width=0.001, **more):
    fields = {
        "metric": metric,
        "value": value,
        "stage": stage,
        "culture": culture,
        "language": language,
        "model": model,
        "persona": "none",
    }
    return {**fields, "low": value - width, "high": value + width, "n": 60, **more}


@pytest.mark.parametrize(
    ("value", "width", "said"),
    [
        (
            0.05,
            0.02,
            "after SFT, asked in the culture's language: seen from the United States, they came nearer (+0.050 [+0.030, +0.070] of the scale)",
        ),
        (-0.05, 0.02, "they went further away (-0.050 [-0.070, -0.030] of"),
        (0.002, 0.003, "seen from the United States, they stayed in place"),
        (0.02, 0.03, "they may or may not have come nearer"),
    ],
)
def test_a_shift_is_up_down_flat_or_undecided(cfg, value, width, said):
    found = sentences.state_shift([record("shift_toward_target", value, width=width)], cfg)
    assert said in found.text and len(found.records) == 1


def test_each_culture_is_asked_in_its_own_language_and_none_is_said(cfg):
    rows = [record("shift_toward_target", 0.05), record("shift_toward_target", -0.3, language="zh")]
    rows += [record("shift_toward_target", 0.0, "sft", "cn", "zh")]
    found = sentences.state_shift(rows, cfg)
    assert "-0.300" not in found.text and "China" in found.text and len(found.records) == 2
    last = sentences.state_shift([*rows, record("shift_toward_target", 0.1, "ppo", "cn", "zh")], cfg)
    assert "The answers after PPO" in last.text and "+0.100" in last.text and len(last.records) == 1, "the last stage alone"
    assert sentences.state_shift([], cfg).records == [] and "no shift is measured" in sentences.state_shift([], cfg).text


def test_counts_stand_beside_the_papers(cfg):
    rows = [
        record("aligned_with_china", 0.35, "zero_shot", "none", "zh", n=20), record("aligned_with_china", 0.5, "ppo", "cn", "zh", width=0.2, n=20),
        record("aligned_with_china", 0.9, "ppo", "us", "zh", n=20),
    ]  # fmt: skip
    found = sentences.state_counts(rows, cfg)
    assert (
        "Of the 20 questions" in found.text and "on 7 before tuning and on 10 after PPO (share 0.50 [0.30, 0.70])" in found.text
    )
    assert sentences.state_counts(rows[:1], cfg).records == []


def test_answering_and_order_span_the_models(cfg):
    rows = [record(name, value, culture=culture) for name, values in {
        "option_mass": (0.8, 0.5, 0.6), "answer_entropy": (0.999, 0.99, 0.985), "order_bias": (0.2, 0.1, 0.1),
    }.items() for culture, value in zip(("none", "us", "cn"), values, strict=True)]  # fmt: skip
    said = sentences.state_answering(rows, cfg).text
    assert (
        "probability of 0.80, after tuning of 0.50 to 0.60" in said and "are nearly even: their entropy is 0.98 to 1.00" in said
    )
    assert "not all even" in sentences.state_answering([*rows, record("answer_entropy", 0.7)], cfg).text
    assert "changes 0.20 of an answer before tuning" in sentences.state_order(rows, cfg).text


def test_the_verdict_is_told_once_where_both_measures_agree(cfg):
    own = {"stage": "ppo", "culture": "us", "language": "en"}
    rows = [
        record("shift_verdict_distance", 0.0, method="not measurable with this model", **own),
        record("smallest_visible_distance", 0.004, **own),
    ]
    same = [*rows, record("shift_verdict_slope", 0.0, method="not measurable with this model", **own)]
    said = sentences.state_verdict(same, cfg)
    assert (
        "answers: not measurable with this model (the United States). The smallest shift" in said.text
        and len(said.records) == 3
    )
    assert "could show is 0.004 (the United States) of the scale" in said.text
    other = [*rows, record("shift_verdict_slope", 0.2, method="moved beyond the controls", **own)]
    assert (
        "the two measures disagree (the United States): by distance not measurable with this model; by slope moved beyond the controls."
        in sentences.state_verdict(other, cfg).text
    )
    assert sentences.state_verdict(rows, cfg).records == []


@pytest.mark.parametrize(
    ("contrast", "said"),
    [
        (0.03, "came nearer (+0.050 [+0.049, +0.051] of the scale), and nearer than"),
        (-0.001, ", but no nearer than to the other"),
    ],
)
def test_a_move_toward_every_country_alike_is_none_toward_one(cfg, contrast, said):
    where = {"stage": "ppo", "culture": "cn", "language": "zh"}
    rows = [record("shift_toward_target", 0.05, **where), record("shift_contrast", contrast, **where)]
    found = sentences.state_shift(rows, cfg)
    assert said in found.text and found.records == rows


def test_counts_stand_beside_even_answers(cfg):
    rows = [
        record("aligned_with_china", 0.2, "zero_shot", "none", "zh", n=20),
        record("aligned_with_china", 0.3, "ppo", "cn", "zh", n=20),
    ]
    rows.append(record("aligned_with_china", 0.35, "uniform", "none", "none", model="baseline", n=20))
    found = sentences.state_counts(rows, cfg)
    assert "Even answers would be on 7." in found.text and found.records == rows
