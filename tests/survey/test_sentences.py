"""What notebooks 05 and 06 say of the survey, from metric records."""

import pandas as pd
import pytest

from align_utils.survey import sentences, verdicts


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
            "Toward their own country, after SFT, over 60 questions: taught the United States, they came nearer (+0.050 [+0.030, +0.070])",
        ),
        (-0.05, 0.02, "they went further away (-0.050 [-0.070, -0.030])."),
        (0.002, 0.003, "taught the United States, they stayed within 0.01 of the scale (+0.002"),
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
    assert "country, after PPO, over 60" in last.text and "+0.100" in last.text and len(last.records) == 1, (
        "the last stage alone"
    )
    assert sentences.state_shift([], cfg).records == [] and "no shift is measured" in sentences.state_shift([], cfg).text


def test_counts_stand_beside_even_answers_and_the_papers(cfg):
    rows = [
        record("aligned_with_china", 0.35, "zero_shot", "none", "zh", n=20), record("aligned_with_china", 0.5, "ppo", "cn", "zh", width=0.2, n=20),
        record("aligned_with_china", 0.35, "uniform", "none", "none", model="baseline", n=20), record("aligned_with_china", 0.9, "ppo", "us", "zh", n=20),
    ]  # fmt: skip
    found = sentences.state_counts(rows, cfg)
    assert "Of the 20 questions" in found.text and found.records == rows[:3]
    assert (
        "on 7 before tuning and on 10 after PPO (share 0.50 [0.30, 0.70]). Even answers would be on 7. The paper" in found.text
    )
    taught = record("aligned_with_china", 0.45, "survey_taught", "cn", "zh", n=20)
    assert (
        "on 7, those of the model taught half of China's own answers are on 9. The"
        in sentences.state_counts([*rows, taught], cfg).text
    )
    assert sentences.state_counts(rows[:1], cfg).records == []


def test_answers_by_number_are_the_untuned_models_and_spread_spans_what_was_taught_and_no_control(cfg):
    values = {"option_mass": (0.8, 0.5, 0.6), "answer_entropy": (0.999, 0.99, 0.98), "order_bias": (0.2, 0.1, 0.1)}
    cells = (("none", "zero_shot"), ("us", "sft"), ("cn", "ppo"))
    rows = [
        record(name, value, stage, culture) for name, own in values.items() for (culture, stage), value in zip(cells, own, strict=True)
    ]  # fmt: skip
    rows += [record(name, 0.01, stage, "us") for name in values for stage in ("survey_taught", "persona", "control_shuffled")]
    said = sentences.state_number(rows, cfg).text
    assert "with a probability of 0.80." in said and "lies 0.20 from the mean over orders" in said
    rows += [record("answer_entropy", 0.7, "zero_shot", "none", "zh"), record("answer_entropy", 0.8, "ppo", "cn", "zh")]
    rows += [record("answer_entropy", 0.6, "sft", "cn", "zh"), record("answer_entropy", 0.1, "ppo", "us", "zh")]
    said = sentences.state_answering(rows, cfg)
    assert (
        ": 100% before tuning and 99% after SFT (the United States) and 70% before tuning and 80% after PPO (China)."
        in said.text
    )
    assert len(said.records) == 4, "each culture in its own language, the last stage alone"


def test_the_chosen_reading_is_named_beside_the_label(cfg):
    columns = ["model", "language", "readout", "value", "low", "high", "n", "chosen"]
    table = pd.DataFrame([
        ("tiny", "en", "label", -0.2, -0.3, -0.1, 40, False), ("tiny", "en", "unlisted_pmi", 0.22, 0.07, 0.4, 40, True),
        ("tiny", "zh", "label", 0.06, -0.09, 0.2, 40, True), ("tiny", "zh", "unlisted_pmi", 0.01, -0.1, 0.1, 40, False),
    ], columns=columns)  # fmt: skip
    found = sentences.state_reading(sentences.record_readings(table), cfg)
    assert (
        "in English its words, less how likely they are unasked (correlation +0.22 [+0.07, +0.40]; the option's number -0.20 [-0.30, -0.10])"
        in found.text
    )
    assert (
        "in Mandarin the option's number (correlation +0.06 [-0.09, +0.20]; not above 0). The best" in found.text
        and len(found.records) == 3
    )


def test_the_verdict_is_told_once_where_both_measures_agree(cfg):
    own = {"stage": "ppo", "culture": "us", "language": "en"}
    rows = [
        record("shift_verdict_distance", 0.0, method=verdicts.BLIND, **own),
        record("smallest_visible_distance", 0.004, **own),
    ]
    same = [*rows, record("shift_verdict_slope", 0.0, method=verdicts.BLIND, **own)]
    said = sentences.state_verdict(same, cfg)
    assert (
        "? For the United States we cannot tell, as no positive control clearly moved them toward that country alone. A shift by"
        in said.text
    )
    assert (
        "by distance of 0.004 (the United States) of the scale would be told from 0 four times in five" in said.text
        and len(said.records) == 3
    )
    away = [dict(row, method=verdicts.AWAY) if row["metric"] == "shift_verdict_distance" else row for row in same]
    assert (
        "by distance no: they moved away (+0.000 [-0.001, +0.001]); by slope we cannot tell"
        in sentences.state_verdict(away, cfg).text
    )
    other = [*rows, record("shift_verdict_slope", 0.2, method=verdicts.BEYOND, **own)]
    told = sentences.state_verdict(other, cfg).text
    assert (
        "by distance we cannot tell, as no positive control clearly moved them toward that country alone; by slope yes, beyond the controls (+0.200 [+0.199, +0.201])."
        in told
    )
    above = [*rows, record("shift_verdict_slope", 0.2, method=verdicts.BLIND, **own)]
    told = sentences.state_verdict(above, cfg).text
    assert (
        "that country alone. Above 0, but not by every test: +0.200 [+0.199, +0.201] by slope (the United States). A shift"
        in told
    )
    alone = [*rows, record("shift_verdict_slope", 0.2, method=verdicts.UNCONTROLLED, **own)]
    assert "Above 0" not in sentences.state_verdict(alone, cfg).text, "it passed every test that could be made"
    assert set(sentences.VERDICTS) == {verdicts.BEYOND, verdicts.UNMOVED, verdicts.BLIND, verdicts.AWAY, verdicts.UNCONTROLLED}
    assert sentences.state_verdict(rows, cfg).records == []


def test_what_should_have_moved_the_answers_stands_beside_what_should_not(cfg):
    rows = []
    for stage, toward, contrast in (("survey_taught", 0.036, -0.051), ("control_foreign", 0.017, 0.005)):
        where = {"stage": stage, "culture": "cn", "language": "zh", "width": 0.01}
        rows += [record("shift_toward_target", toward, **where), record("shift_contrast", contrast, **where)]
    found = sentences.state_positive([*rows, record("shift_toward_target", 0.9, "survey_taught", "cn", "en")], cfg)
    assert (
        found.text.startswith("By distance the taught control did not work for China:")
        and "by +0.036 [+0.026, +0.046] toward it" in found.text
    )
    assert (
        "and +0.087 toward the other country. The other culture's adapter moved the answers by +0.017 [+0.007, +0.027] toward China."
        in found.text
    )
    assert found.records == rows[:3]
    asked = record("shift_toward_target", 0.003, "persona", "cn", "zh", width=0.01)
    assert (
        "Asked as a person from there, the untuned model moved by +0.003 [-0.007, +0.013]."
        in sentences.state_positive([*rows, asked], cfg).text
    )
    rows[1] |= {"value": 0.02, "low": 0.01, "high": 0.03}
    assert "By distance the taught control worked for China:" in sentences.state_positive(rows, cfg).text
    assert sentences.state_positive([], cfg).records == []


@pytest.mark.parametrize(
    ("contrast", "said"),
    [
        (0.03, "came nearer (+0.050 [+0.049, +0.051]), and more so than to the other country (difference +0.030 [+0.029, +0.031])"),
        (-0.0005, ", but no more so than to the other country"),
        (-0.03, ", but less so than to the other country"),
    ],
)  # fmt: skip
def test_a_move_toward_every_country_alike_is_none_toward_one(cfg, contrast, said):
    where = {"stage": "ppo", "culture": "cn", "language": "zh"}
    rows = [record("shift_toward_target", 0.05, **where), record("shift_contrast", contrast, **where)]
    found = sentences.state_shift(rows, cfg)
    assert said in found.text and found.records == rows
    rows[0] |= {"value": -0.05, "low": -0.06, "high": -0.04}
    away = {0.03: "but less so than from the", -0.0005: "and no more so than from the", -0.03: "and even more so than from the"}
    assert f"went further away (-0.050 [-0.060, -0.040]), {away[contrast]} other" in sentences.state_shift(rows, cfg).text
