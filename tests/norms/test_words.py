"""Word lists for reading, and the sentences of notebook 01."""

import pandas as pd
import pytest
from conftest import copy_project, prepare

from align_utils import config, norms
from align_utils.norms import words


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    cfg = config.load("smoke", root=copy_project(tmp_path_factory.mktemp("words")))
    return cfg, prepare(cfg)


def test_the_concepts_shown_are_held_out_and_the_preferred_ones_first(run):
    cfg, people = run
    shown = norms.pick_concepts(cfg, size=6)
    assert len(shown) == 6 and all(set(shown[name]) <= set(own.cues["test"]) for name, own in people.items())
    preferred = [name for name in cfg.profile.show.concepts if name in set(shown["concept"])]
    assert list(shown["concept"])[: len(preferred)] == preferred


def test_hits_are_bold_and_words_that_need_it_have_a_gloss(run):
    cfg, people = run
    concepts = pd.DataFrame({"concept": ["dog"], "us": ["dog"], "cn": ["狗"]})
    answers = pd.DataFrame({
        "culture": ["us", "cn", "cn"], "stage": ["sft", "sft", "few_shot"], "cue": ["dog", "狗", "红色"],
        "responses": [["Bark", "zeppelin"], ["猫", "齐柏林"], ["血"]],
    })  # fmt: skip
    table = norms.list_words(cfg, people, concepts, answers).set_index(["culture", "stage"])
    assert table.loc[("us", "sft"), ["value", "hits"]].tolist() == ["**Bark**, zeppelin", 1], "as people write it, case apart"
    said = "猫" in set(people["cn"].norms.query("cue == '狗'")["response"])
    assert table.loc[("cn", "sft"), "value"] == ("**猫** cat, 齐柏林" if said else "猫 cat, 齐柏林")
    assert ("cn", "few_shot") not in table.index, "another cue's list"
    first = people["us"].norms.query("cue == 'dog' and rank <= 5").sort_values("rank")["response"]
    assert table.loc[("us", "human"), "value"] == ", ".join(first) and "**" not in table.loc[("cn", "human"), "value"]


def record(metric, value, **fields):
    return {"metric": metric, "value": value, "low": value - 0.01, "high": value + 0.01, **fields}


def test_sentences_say_what_the_records_say(cfg):
    records = [record("strongest_response", 0.221, culture="us"), record("strongest_response", 0.187, culture="cn")]
    said = words.state_concentration(records, cfg)
    assert "22 % (United States) and 19 % (China)" in said.text and said.records == records
    pairs = [("same concept", 0.03), ("any concept", 0.0)]
    linked = [record("overlap_linked", value, culture="us-cn", method=method) for method, value in pairs]
    covered = [{"metric": "overlap_covered", "value": 0.06, "method": "same concept"}]
    said = words.state_overlap(linked + covered, cfg)
    assert "At least 0.030 [0.020, 0.040]" in said.text and said.text.endswith(
        "A lower bound: only 6 % of the responses could be linked."
    )
    assert len(said.records) == 3 and "cultures, against 0.000" in said.text
    alike = [linked[0], record("overlap_linked", 0.025, culture="us-cn", method="any concept")]
    assert "cultures, which is not shown to be more than 0.025" in words.state_overlap(alike + covered, cfg).text
    assert "not measured" in words.state_overlap([], cfg).text
    method = "top-5 test pairs reversed in training"
    leaks = [record("leakage", value, culture=culture, method=method) for culture, value in (("us", 0.083), ("cn", 0.04))]
    said = words.state_leakage(leaks, cfg)
    assert "For 8 % (United States) and 4 % (China) of the five strongest answers" in said.text and said.records == leaks


def test_every_gloss_is_one_short_line_for_one_word(cfg):
    table = pd.read_csv(cfg.root / "data" / "glosses.csv", dtype=str, keep_default_na=False)
    pairs = pd.read_csv(cfg.root / "data" / "pairs.csv", dtype=str)
    assert list(table.columns) == ["zh", "en"] and table["zh"].is_unique and not set(table["zh"]) & set(pairs["cue_zh"])
    assert table["en"].str.fullmatch(r"[A-Za-z'0-9.-]+( [A-Za-z'0-9.-]+){0,2}").all(), table[
        ~table["en"].str.fullmatch(r"[A-Za-z'0-9.-]+( [A-Za-z'0-9.-]+){0,2}")
    ]
    # What people say to the sample's cues can be read without Chinese.
    sample = pd.read_csv(cfg.root / "data/sample/swow/strength.SWOW-ZH.R123.sample.csv")
    sample = sample[sample["R123"] >= 5]
    known = sample["response"].isin({*table["zh"], *pairs["cue_zh"]})
    assert known.mean() > 0.9, f"{known.mean():.2f} of the commoner responses have a gloss"
