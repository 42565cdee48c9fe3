"""What the records of notebook 04 say: up, down, flat, undecided, in several cultures, and where records are missing."""

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from align_utils import plots
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
            "The effect of SFT on Precision@5 is unclear with 48 concepts: a change of +0.10 [-0.10, +0.30] (United States).",
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
        and third.startswith("The effect of PPO")
        and "States" not in third
    )
    assert sentences.state_precision([], cfg).text == "Precision@5 was not measured in this run."
    assert sentences.state_drawn([], cfg).text == "No lists were drawn after PPO in this run."


def test_variety_is_the_price_and_has_a_margin_of_its_own(cfg):
    records = make_records({("us", "ppo - sft"): (-0.4, -0.45, -0.35)}, "drawn_distinct_words")
    assert "leaves the number of different words" in sentences.state_drawn(records, cfg).text
    # An end that is not 0 is not told as 0.
    records = make_records({("us", "ppo - sft"): (-0.2, -0.44, -0.004)}, "drawn_distinct_words")
    assert sentences.state_drawn(records, cfg).text.endswith("a change of -0.20 [-0.44, -0.004] (United States).")
    records = make_records({("us", "ppo - sft"): (-2.0, -2.5, -1.5)}, "drawn_distinct_words")
    assert sentences.state_drawn(records, cfg).text.startswith("PPO lowers the number of different words")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("up", "scores higher than"), ("down", "scores lower than"), ("flat", "scores like"), ("undecided", "do not decide")],
)
def test_controls_are_told_and_their_absence_too(cfg, verdict, words):
    pairs = ("sft - graph", "sft - control_shuffled", "sft_same_size - control_other_culture")
    told = sentences.state_controls(make_records({("cn", pair): CHANGES[verdict] for pair in pairs}, subset="all"), cfg)
    assert told.text.count(words) == 3 and len(told.records) == 3 and "trains no control on" not in told.text
    bare = cfg.profile.model_copy(update={"controls": []})
    vars(cfg)["profile"], before = bare, cfg.profile
    alone = sentences.state_controls(make_records({("us", "sft - graph"): CHANGES[verdict]}, subset="all"), cfg)
    vars(cfg)["profile"] = before
    assert alone.text.count(words) == 1 and "trains no control on" in alone.text


@pytest.mark.parametrize(
    ("people", "ppo", "words"),
    [
        (0.1, 0.1, "After PPO the model's words lie within the margin of people's in valence"),
        (0.1, 0.6, "Whether after PPO the model's words lie within the margin of people's is unclear for valence"),
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
    assert words in told.text and told.text.count("the margin of people's") == 1 and told.records == records
    assert sentences.state_ratings(records[1:], cfg).records == [], "nothing is said without the check"
    two = records + [record | {"culture": "cn"} for record in records]
    everywhere = f"valence in {'either country' if 'tested' in words else 'both countries'}"
    assert everywhere in sentences.state_ratings(two, cfg).text
    apart = [records[0], records[1] | {"value": 0.6, "low": 0.4, "high": 0.8}]
    if people < 0.5:
        assert sentences.state_ratings(apart, cfg).text.startswith(
            "After PPO the words differ from people's in valence (United States)"
        )


def place_controls(foreign, shuffled):
    """Records of SFT's gain of 0.2 from 0.30 [0.20, 0.40], of the other culture's adapter, and of shuffled cues at a mean."""
    changes = {("us", "sft - few_shot"): (0.2, 0.1, 0.3), ("us", "control_foreign - few_shot"): foreign}
    level = {
        "metric": "precision_at_5_attested",
        "model": "tiny",
        "culture": "us",
        "subset": "all",
        "n": 48,
        "stage": "control_shuffled",
    }
    return [*make_records(changes, subset="all"), level | {"value": shuffled, "low": shuffled - 0.05, "high": shuffled + 0.05}]


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (
            "up",
            "lifts Precision@5 above the untuned model's too, so that this much of the gain is not the culture's own: +0.20 [+0.10",
        ),
        ("down", "lowers Precision@5 below the untuned model's: -0.20 [-0.30, -0.10] beside SFT's +0.20 (United States)."),
        ("flat", "leaves Precision@5 where the untuned model has it, within 0.03: +0.01"),
        ("undecided", "is unclear with 48 concepts: +0.10"),
    ],
)
def test_what_the_other_cultures_adapter_gains_is_told_beside_sfts_gain(cfg, verdict, words):
    records = place_controls(CHANGES[verdict], 0.3)
    (text,), used = sentences.tell_beside_start(records, cfg)
    assert "he other culture's adapter" in text and words in text and [r["method"] for r in used] == [
        "control_foreign - few_shot", "sft - few_shot"
    ]  # fmt: skip
    assert text in sentences.state_controls(records, cfg).text
    assert sentences.tell_beside_start(make_records({("us", "sft - few_shot"): CHANGES["up"]}, subset="all"), cfg) == ([], [])


@pytest.mark.parametrize(
    ("mean", "words"),
    [
        (0.1, "Shuffled cues push Precision@5 below the untuned model's, so that SFT's lead over them is larger than its gain: "
              "from 0.30 [0.20, 0.40] to 0.10 [0.05, 0.15] (United States)."),
        (0.5, "Shuffled cues lift Precision@5 above the untuned model's, so that part of SFT's gain is the form of the lists: "),
        (0.16, None), (0.44, None),
    ],
)  # fmt: skip
def test_shuffled_cues_are_set_beside_the_start_where_they_lie_apart_from_it(cfg, mean, words):
    (_, *parts), used = sentences.tell_beside_start(place_controls(CHANGES["up"], mean), cfg)
    assert [part.startswith(words) for part in parts] == [True] * (words is not None) and len(used) == 2 + 2 * len(parts)


@pytest.mark.parametrize(
    ("us", "cn", "words"), [(22, 22, "22 of 48 in both countries."), (22, 30, "22 of 48 (United States) and 30 of 48 (China).")]
)
def test_the_caption_says_how_many_concepts_people_answered(cfg, us, cn, words):
    rows = [
        ("us", "sft", 48, "all"),
        ("us", "human", us, "answered"),
        ("cn", "sft", 48, "all"),
        ("cn", "human", cn, "answered"),
    ]
    table = pd.DataFrame(rows, columns=["culture", "stage", "n", "subset"]).assign(model="tiny")
    assert sentences.describe_precision(cfg, table).endswith(f"by which people are scored: {words}")
    assert "answered" not in sentences.describe_precision(cfg, table[table["stage"] == "sft"])
    shown = table.assign(value=0.5, low=0.4, high=0.6)
    for answered, text in ((cn, f"people 0.50 ({cn} concepts)"), (48, "people 0.50")):
        part = shown[shown["culture"] == "cn"]
        axes, *_ = plots.plot_precision(part.assign(n=part["n"].replace(cn, answered))).axes
        assert [text] == [one.get_text() for one in axes.texts if one.get_text().startswith("people")]


def test_the_table_of_differences_tells_what_ppo_adds():
    table = pd.DataFrame({"comparison": ["grpo - sft", "ppo - sft", "sft - few_shot"]})
    told = sentences.explain_differences(table)
    assert dict(zip(told["comparison"], told["tells"], strict=True)) == {
        "sft - few_shot": "what SFT adds", "ppo - sft": "what PPO adds", "grpo - sft": "",
    }  # fmt: skip


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
    first, second = sentences.record_estimates(cfg.cultures, table, "drawn_{measure}", decoding="sampled")
    assert first == {"metric": "drawn_distinct_words", "culture": "us", "stage": "sft", "value": 1.0, "language": "en", "unit": "words",
                     "decoding": "sampled"}  # fmt: skip
    assert second["language"] == "zh"
