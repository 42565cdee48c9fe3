"""The split: by family, alike in all languages, and proved disjoint; what leaks through it, counted by hand; what stands beside it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from conftest import change, copy_project
from hypothesis import given, settings
from hypothesis import strategies as st

from align_utils import config
from align_utils.lexical import participants, precision
from align_utils.norms import split, strengths
from align_utils.store.textfiles import DataError


@pytest.fixture(scope="module")
def made(cfg):
    loaded = strengths.load_norms(cfg)
    return loaded, [(cfg.cultures[name].language, part.norms) for name, part in loaded.items()], split.load_pairs(cfg)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_no_concept_stands_in_two_splits_whatever_the_seed(cfg, made, seed):
    loaded, norms, concepts = made
    splits = split.split_pairs(concepts, norms, cfg.languages, valid=20, test=40, seed=seed)
    assert (splits.groupby("family")["split"].nunique() == 1).all()
    sizes = splits["split"].value_counts()
    assert 40 <= sizes["test"] <= 45 and 20 <= sizes["valid"] <= 25
    for name, part in loaded.items():
        cues = split.split_cues(part.norms, splits, cfg.language_of(name))
        seen = [cue for part in ("train", "valid", "test", "excluded") for cue in cues[part]]
        assert sorted(seen) == sorted(set(part.norms["cue"]))


def test_same_seed_same_split_and_another_seed_another(cfg, made):
    _, norms, concepts = made
    one, same, other = (split.split_pairs(concepts, norms, cfg.languages, valid=8, test=16, seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same)
    assert set(one.query("split == 'test'")["cue_en"]) != set(other.query("split == 'test'")["cue_en"])


def test_inflected_forms_share_a_family_and_leave_training(cfg, english):
    concepts = pd.DataFrame({"cue_en": ["dog", "dogs", "moon", "sun"], "cue_zh": ["狗", "狗群", "月亮", "太阳"], "domain": "x"})
    asked = [(name, concepts.rename(columns={f"cue_{name}": "cue"})) for name in cfg.languages]
    family = split.split_pairs(concepts, asked, cfg.languages, valid=1, test=1, seed=0)["family"]
    assert family[0] == family[1] and len(set(family)) == 3
    splits = concepts[["cue_en", "cue_zh"]].iloc[[0, 2]].assign(split=["test", "train"], family=[0, 1])
    frame = pd.DataFrame({"cue": ["dog", "dogs", "moon", "sun"], "response": "r"})
    cues = split.split_cues(frame, splits, english)
    assert cues == {"valid": [], "test": ["dog"], "train": ["moon", "sun"], "excluded": ["dogs"]}


def test_an_overlap_is_an_error_that_names_the_cues(english):
    with pytest.raises(DataError, match=r"'Dogs' \(train\) and 'dog' \(test\)"):
        split.prove_disjoint({"train": ["Dogs", "sun"], "valid": ["moon"], "test": ["dog"]}, english)


def test_too_few_pairs_say_so(cfg, made):
    _, norms, concepts = made
    with pytest.raises(DataError, match="norms.valid_pairs"):
        split.split_pairs(concepts.head(20), norms, cfg.languages, valid=8, test=16, seed=0)


def test_what_stands_beside_norms_of_first_responses_counts_those_alone(tmp_path):
    """Ceiling, panels, margins, and simulated participants beside them: the same whatever second and third responses people gave."""
    cfg = config.load("smoke", root=copy_project(tmp_path))
    cfg = change(
        cfg, norms={"responses": "R1", "valid_pairs": 4, "test_pairs": 8}, participants={"n": 4}, stats={"resamples": 20}
    )
    loaded, found = strengths.load_norms(cfg), []
    assert all(
        part.norms.groupby("cue")["count"].sum().eq(part.trials.query("R1 != ''").groupby("cue").size()).all()
        for part in loaded.values()
    )
    for planted in ({}, {"R2": "same", "R3": "too"}):
        split.split_run(cfg, {name: replace(part, trials=part.trials.assign(**planted)) for name, part in loaded.items()})
        people, families = split.load_run(cfg), split.map_families(cfg)
        panels = participants.load_panels(cfg, people)
        answers = pd.concat([
            people[name].trials.groupby("cue").head(4).assign(culture=name, **planted) for name in panels
        ]).assign(model="tiny", stage="few_shot")  # fmt: skip
        found.append(
            [
                precision.summarise_ceiling(cfg, people, families),
                participants.score_panels(cfg, answers, people, panels, families),
            ]
        )
    for first, second in zip(*found, strict=True):
        assert len(first)
        pd.testing.assert_frame_equal(first, second)


def test_a_culture_of_which_there_are_strengths_alone_is_read_again(tmp_path):
    cfg = config.load("smoke", root=copy_project(tmp_path))
    loaded = strengths.load_norms(cfg)
    split.split_run(cfg, loaded | {"cn": replace(loaded["cn"], trials=None)})
    people = split.load_run(cfg)
    assert people["cn"].trials is None and len(people["us"].trials)


def test_pairs_of_the_readers_own_come_first_and_a_file_that_is_none_is_not_passed_over(cfg, tmp_path):
    own = SimpleNamespace(data_dir=tmp_path, root=cfg.root, languages=cfg.languages)
    (tmp_path / "swow").mkdir()
    (tmp_path / "swow/cue_pairs.csv.txt").write_text("cue_en;cue_zh;domain\ndog;狗;animals\n")
    with pytest.raises(
        DataError, match=r"cue_pairs.csv: not there, but in .* do not count: cue_pairs.csv.txt .*Bring it under this name"
    ):
        split.load_pairs(own)
    (tmp_path / "swow/cue_pairs.csv.txt").rename(tmp_path / "swow/cue_pairs.csv")
    assert split.load_pairs(own)["cue_en"].tolist() == ["dog"]


def test_our_pairs_are_enough_and_distinct(cfg):
    concepts = split.load_pairs(cfg)
    assert len(concepts) >= 800 and concepts["domain"].nunique() >= 15
    assert concepts["cue_en"].str.casefold().is_unique and concepts["cue_zh"].is_unique


@pytest.fixture
def norms():
    rows = [
        ("dog", "cat", 1), ("dog", "bone", 2), ("moon", "night", 1), ("moon", "sun", 2),
        ("cat", "Dog", 1), ("cat", "fur", 2), ("sun", "day", 1), ("moons", "sky", 1),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["cue", "response", "rank"])


def test_counted_by_hand(norms, english):
    cues = {"train": ["cat", "sun", "moons"], "valid": [], "test": ["dog", "moon"]}
    assert split.count_leaks(norms, cues, english) == {
        "test cues that are training responses": (1, 2),  # dog, said to cat in another case
        "top-5 test pairs reversed in training": (1, 4),  # dog-cat; sun was never asked for moon
        "test cues with a variant that trains (case, inflection)": (1, 2),  # moons
    }
    sixth = norms.assign(rank=norms["rank"] + 5 * (norms["response"] == "cat"))
    assert split.count_leaks(sixth, cues, english)["top-5 test pairs reversed in training"] == (0, 3)


def test_a_cue_in_the_other_script_is_a_variant(chinese):
    pytest.importorskip("opencc")
    rows = pd.DataFrame([("馬", "跑", 1), ("马", "跑", 1), ("书", "读", 1)], columns=["cue", "response", "rank"])
    found = split.count_leaks(rows, {"train": ["馬"], "valid": [], "test": ["马", "书"]}, chinese)
    assert found["test cues with a variant that trains (case, inflection, script)"] == (1, 2)


def test_a_concept_that_trains_in_another_language_is_seen(cfg):
    splits = pd.DataFrame({"cue_en": ["dog", "sun"], "cue_zh": ["狗", "太阳"], "split": ["test", "test"]})
    rows = pd.DataFrame({"cue": ["dog", "狗"], "response": "x", "rank": 1})
    for trains, count in ((["狗"], 1), ([], 0)):
        cues = {"us": {"train": ["cat"], "test": ["dog"]}, "cn": {"train": trains, "test": ["狗"]}}
        people = {name: split.CultureNorms(rows, own, Path()) for name, own in cues.items()}
        table = split.report_leakage(cfg, people, splits)
        (crossing,) = table[table["culture"] == "all"].to_dict("records")
        assert (crossing["count"], crossing["of"], crossing["share"]) == (count, 2, count / 2)
        assert table["low"].le(table["share"]).all() and table["high"].ge(table["share"]).all()
