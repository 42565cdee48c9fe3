"""What the records of notebook 04 say: up, down, flat, undecided, in several cultures, and where records are missing."""

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from align_utils.lexical import precision, sentences
from align_utils.norms.split import CultureNorms

CHANGES = {"up": (0.2, 0.1, 0.3), "down": (-0.2, -0.3, -0.1), "flat": (0.01, -0.02, 0.02), "undecided": (0.1, -0.1, 0.3)}


def make_records(changes, metric="precision_at_5_attested", **fields):
    """Records of changes {(culture, comparison): (value, low, high)}, each stage before and after at 0.3 and 0.3 + value."""
    records = []
    for (culture, comparison), (value, low, high) in changes.items():
        where = {"model": "tiny", "culture": culture, "n": 48, **fields}
        records.append(
            {**where, "metric": f"{metric}_difference", "method": comparison, "value": value, "low": low, "high": high}
        )
        for stage, mean in zip(comparison.split(" - "), (0.3 + value, 0.3), strict=True):
            one = {**where, "metric": metric, "stage": stage, "value": mean, "low": round(mean - 0.1, 9), "high": mean + 0.1}
            known = [r for r in records if r["metric"] == metric and (r["culture"], r["stage"]) == (culture, stage)]
            records += [] if known else [one]
    return records


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        ("up", "SFT lifts Precision@5 from 0.30 [0.20, 0.40] to 0.50 [0.40, 0.60] (United States)."),
        ("down", "SFT lowers Precision@5 from 0.30 [0.20, 0.40] to 0.10 [0.00, 0.20] (United States)."),
        ("flat", "SFT leaves Precision@5 where it was, within 0.03: a change of +0.01 [-0.02, +0.02] (United States)."),
        (
            "undecided",
            "What SFT does to Precision@5 cannot be told from 48 concepts: a change of +0.10 [-0.10, +0.30] (United States).",
        ),
    ],
)
def test_each_verdict_has_its_words_and_its_records(cfg, verdict, text):
    told = sentences.state_precision(make_records({("us", "sft - few_shot"): CHANGES[verdict]}, subset="all"), cfg)
    assert told.text == text and len(told.records) == 3 and {r["culture"] for r in told.records} == {"us"}
    changes = {("us", pair): CHANGES[verdict] for pair in ("ppo - sft", "sft - few_shot")}
    drawn = sentences.state_drawn(make_records(changes, "drawn_precision_at_5_attested"), cfg).text
    assert drawn == text.replace("Precision@5", "the Precision@5 of drawn lists").replace("SFT", "PPO")


def test_cultures_with_one_verdict_share_a_sentence_and_others_have_their_own(cfg):
    changes = {("us", "sft - few_shot"): CHANGES["up"], ("cn", "sft - few_shot"): CHANGES["up"]}
    changes |= {("us", "ppo - sft"): CHANGES["flat"], ("cn", "ppo - sft"): CHANGES["undecided"]}
    told = sentences.state_precision(make_records(changes, subset="all"), cfg)
    first, second, third = told.text.split(". ")
    assert first.endswith("to 0.50 [0.40, 0.60] (United States) and from 0.30 [0.20, 0.40] to 0.50 [0.40, 0.60] (China)")
    assert (
        second.startswith("PPO leaves")
        and "China" not in second
        and third.startswith("What PPO does")
        and "States" not in third
    )
    assert sentences.state_precision([], cfg).text == "Precision@5 was not measured in this run."
    assert sentences.state_drawn([], cfg).text == "No lists were drawn after PPO in this run."


def test_variety_is_the_price_and_has_a_margin_of_its_own(cfg):
    records = make_records({("us", "ppo - sft"): (-0.4, -0.45, -0.35)}, "drawn_distinct_words")
    assert "leaves the number of different words" in sentences.state_drawn(records, cfg).text
    records = make_records({("us", "ppo - sft"): (-2.0, -2.5, -1.5)}, "drawn_distinct_words")
    assert sentences.state_drawn(records, cfg).text.startswith("PPO lowers the number of different words")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("up", "scores higher than"), ("down", "scores lower than"), ("flat", "scores like"), ("undecided", "do not decide")],
)
def test_controls_are_told_and_their_absence_too(cfg, verdict, words):
    pairs = ("sft - graph", "sft - control_shuffled", "sft_same_size - control_other_culture")
    told = sentences.state_controls(make_records({("cn", pair): CHANGES[verdict] for pair in pairs}, subset="all"), cfg)
    assert told.text.count(words) == 3 and len(told.records) == 3 and "trains no controls" not in told.text
    bare = cfg.profile.model_copy(update={"controls": []})
    vars(cfg)["profile"], before = bare, cfg.profile
    alone = sentences.state_controls(make_records({("us", "sft - graph"): CHANGES[verdict]}, subset="all"), cfg)
    vars(cfg)["profile"] = before
    assert alone.text.count(words) == 1 and "trains no controls" in alone.text


@pytest.mark.parametrize(
    ("people", "ppo", "words"),
    [
        (0.1, 0.1, "After PPO the model's words are at people's level in valence"),
        (0.1, 0.6, "It is not shown that after PPO the model's words are at people's level in valence"),
        (0.6, 0.1, "cannot be tested for valence"),
    ],
)
def test_human_level_is_told_with_the_check_by_people_themselves(cfg, people, ppo, words):
    """The margin on a scale from 1 to 9 is half a point."""
    records = [
        {"metric": "human_level_difference", "model": "tiny", "culture": "us", "method": "valence", "stage": stage, "value": 0.0,
         "low": -end, "high": end}
        for stage, end in (("human_top5", people), ("ppo", ppo))
    ]  # fmt: skip
    told = sentences.state_ratings(records, cfg)
    assert words in told.text and told.text.count("people's level") == 1 and told.records == records
    assert sentences.state_ratings(records[1:], cfg).records == [], "nothing is said without the check"


def test_the_measure_of_the_notebook_is_the_packages(cfg):
    """The five lines of notebook 04, run on lists made up here, for every cue."""
    (source,) = (
        cell.source
        for cell in nbformat.read(ROOT / "notebooks/04_lexical_alignment.ipynb", 4).cells
        if "first_five =" in cell.source
    )
    assert len(source.splitlines()) == 5
    said = {"dog": ["Cat", "bone", "bark"], "sun": ["moon"]}
    rows = [(cue, word, 5, place) for cue, words in said.items() for place, word in enumerate(words, 1)]
    frame = pd.DataFrame(rows, columns=["cue", "response", "count", "rank"])
    lists = pd.DataFrame(
        {"culture": "us", "stage": "sft", "cue": ["dog", "sun"], "responses": [["cat", "x", "bone", "y", "z", "bark"], []]}
    )
    expected = precision.score_lists(lists[["cue", "responses"]], frame, cfg.languages["en"], ks=[5], min_count=1)
    *lines, last = source.splitlines()
    for cue, score in expected.query("reading == 'attested'").set_index("cue")["precision"].items():
        known = {"people": {"us": CultureNorms(frame, {}, ROOT)}, "concepts": {"us": [cue]}, "shown": lists, "cfg": cfg}
        exec("\n".join(lines), known)
        assert eval(last, known) == score == {"dog": 0.4, "sun": 0.0}[cue]


def test_a_record_takes_its_name_and_fields_from_its_row(cfg):
    table = pd.DataFrame(
        {"culture": ["us", "cn"], "measure": "distinct_words", "stage": "sft", "value": [1.0, np.nan], "cue": "x"}
    )
    first, second = sentences.record_estimates(cfg, table, "drawn_{measure}", decoding="sampled")
    assert first == {"metric": "drawn_distinct_words", "culture": "us", "stage": "sft", "value": 1.0, "language": "en", "unit": "words",
                     "decoding": "sampled"}  # fmt: skip
    assert second["language"] == "zh"
