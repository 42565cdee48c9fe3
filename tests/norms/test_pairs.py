"""The split: by family, alike in all languages, and proved disjoint."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align_utils.norms import split as norms_split
from align_utils.norms import strengths
from align_utils.store.textfiles import DataError


def load(cfg):
    loaded = {name: strengths.load_norms(cfg, name) for name in cfg.cultures}
    return loaded, strengths.merge_languages(cfg, loaded), norms_split.load_pairs(cfg)[0]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_no_concept_stands_in_two_splits_whatever_the_seed(cfg, seed):
    loaded, merged, concepts = load(cfg)
    splits = norms_split.split_pairs(concepts, merged, cfg.languages, valid=20, test=40, seed=seed)
    assert (splits.groupby("family")["split"].nunique() == 1).all()
    sizes = splits["split"].value_counts()
    assert 40 <= sizes["test"] <= 45 and 20 <= sizes["valid"] <= 25
    for name, part in loaded.items():
        cues = norms_split.split_cues(part.norms, splits, cfg.language_of(name))
        seen = [cue for split in ("train", "valid", "test", "excluded") for cue in cues[split]]
        assert sorted(seen) == sorted(set(part.norms["cue"]))


def test_same_seed_same_split_and_another_seed_another(cfg):
    _, merged, concepts = load(cfg)
    one, same, other = (norms_split.split_pairs(concepts, merged, cfg.languages, valid=8, test=16, seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same)
    assert set(one.query("split == 'test'")["cue_en"]) != set(other.query("split == 'test'")["cue_en"])


def test_inflected_forms_share_a_family_and_leave_training(cfg, english):
    concepts = pd.DataFrame({"cue_en": ["dog", "dogs", "moon", "sun"], "cue_zh": ["狗", "狗群", "月亮", "太阳"], "domain": "x"})
    family = norms_split._find_families(concepts, cfg.languages)
    assert family[0] == family[1] and len(set(family)) == 3
    splits = concepts[["cue_en", "cue_zh"]].iloc[[0, 2]].assign(split=["test", "train"], family=[0, 1])
    frame = pd.DataFrame({"cue": ["dog", "dogs", "moon", "sun"], "response": "r"})
    cues = norms_split.split_cues(frame, splits, english)
    assert cues == {"valid": [], "test": ["dog"], "train": ["moon", "sun"], "excluded": ["dogs"]}


def test_an_overlap_is_an_error_that_names_the_cues(english):
    with pytest.raises(DataError, match=r"'Dogs' \(train\) and 'dog' \(test\)"):
        norms_split.prove_disjoint({"train": ["Dogs", "sun"], "valid": ["moon"], "test": ["dog"]}, english)


def test_too_few_pairs_say_so(cfg):
    _, merged, concepts = load(cfg)
    with pytest.raises(DataError, match="norms.valid_pairs"):
        norms_split.split_pairs(concepts.head(20), merged, cfg.languages, valid=8, test=16, seed=0)


def test_our_pairs_are_enough_and_distinct(cfg):
    concepts, path = norms_split.load_pairs(cfg)
    assert path.name == "pairs.csv" and len(concepts) >= 800 and concepts["domain"].nunique() >= 15
    assert concepts["cue_en"].str.casefold().is_unique and concepts["cue_zh"].is_unique
