"""Metrics: hand-worked cases, and ranx as an independent implementation."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align_utils.config import settings as config_settings
from align_utils.lexical import precision
from align_utils.norms.split import CultureNorms, fold_words
from align_utils.training import reward

NORMS = pd.DataFrame({
    "cue": ["dog"] * 4 + ["sun"] * 2, "response": ["cat", "bone", "bark", "pet", "moon", "hot"],
    "count": [10, 6, 2, 1, 8, 2], "n": [20] * 4 + [10] * 2,
})  # fmt: skip
NORMS["strength"], NORMS["rank"] = NORMS["count"] / NORMS["n"], [1, 2, 3, 4, 1, 2]


def score(responses, *, k, min_count=1, english):
    lists = pd.DataFrame({"cue": ["dog"], "responses": [responses]})
    table = precision.score_lists(lists, NORMS, english, ks=[k], min_count=min_count)
    return dict(zip(table["reading"], table["precision"], strict=True))


def test_precision_worked_by_hand(english):
    assert score(["pet", "Cat", "moon"], k=3, english=english) == {"attested": 2 / 3, "top": 1 / 3}
    assert score(["cat"], k=5, english=english) == {"attested": 1 / 5, "top": 1 / 5}, "missing responses are wrong"
    assert score(["pet", "cat"], k=2, min_count=2, english=english) == {"attested": 1 / 2, "top": 1 / 2}
    assert score([], k=5, english=english) == {"attested": 0.0, "top": 0.0}
    assert score(["cat", "CAT", "bone"], k=2, english=english)["attested"] == 1.0, "duplicates take no place"


def test_lemma_matching_joins_forms_and_ranks_them_by_their_sum(english, chinese):
    rows = [("dog", "cats", 4, 1), ("dog", "bone", 4, 2), ("dog", "a cat", 3, 3), ("dog", "ice-cream", 2, 4)]
    frame = pd.DataFrame(rows, columns=["cue", "response", "count", "rank"])
    lists = pd.DataFrame({"cue": ["dog"], "responses": [["cat", "ice creams"]]})
    found = {
        matching: precision.score_lists(lists, frame, english, ks=[1, 2], min_count=2, matching=matching)["precision"].tolist()
        for matching in ("exact", "lemma")
    }
    # attested@1, top@1, attested@2, top@2: by lemma, cat (4 + 3) comes first and the ice cream is found but is not in the top two.
    assert found == {"exact": [0, 0, 0, 0], "lemma": [1, 1, 1, 0.5]}
    frame = pd.DataFrame([("苹果", "红色的", 5, 1), ("苹果", "目的", 1, 2)], columns=["cue", "response", "count", "rank"])
    lists = pd.DataFrame({"cue": ["苹果"], "responses": [["红色", "目的"]]})
    assert precision.score_lists(lists, frame, chinese, ks=[2], min_count=1, matching="lemma")["precision"].tolist() == [1, 1]
    assert fold_words(["目的", "女儿", "小孩儿"], chinese, "lemma") == {"目的": "目的", "女儿": "女儿", "小孩儿": "小孩"}


alphabet = list("abcdefghij")
lists_of = st.lists(st.sampled_from(alphabet), unique=True, max_size=10)


@settings(max_examples=40, deadline=None)
@given(lists_of, lists_of.filter(bool), st.sampled_from([1, 3, 5, 10]))
def test_precision_agrees_with_ranx(generated, human, k):
    ranx = pytest.importorskip("ranx")
    if not generated:
        assert precision.precision_at_k(generated, human, k) == 0
        return
    qrels = ranx.Qrels({"q": dict.fromkeys(human, 1)})
    run = ranx.Run({"q": {word: 1.0 / (i + 1) for i, word in enumerate(generated)}})
    assert precision.precision_at_k(generated, human, k) == pytest.approx(ranx.evaluate(qrels, run, f"precision@{k}"))


def test_ceiling_is_one_for_people_who_agree_and_zero_for_people_who_do_not(english):
    same = pd.DataFrame({"cue": ["dog"] * 8, "R1": "cat", "R2": "bone", "R3": "pet"})
    table = precision.estimate_ceiling(same, ["dog"], english, ks=[3], splits=5, seed=0)
    assert table["precision"].eq(1).all() and table["people"].eq(4).all()
    apart = pd.DataFrame({"cue": ["dog"] * 8, "R1": [f"w{i}" for i in range(8)], "R2": "", "R3": ""})
    assert precision.estimate_ceiling(apart, ["dog"], english, ks=[3], splits=5, seed=0)["precision"].eq(0).all()


def test_responses_tied_with_the_last_of_the_strongest_count(english):
    """`bark` and `ball` were given as often: whether one of them is the second strongest is no matter of code points."""
    rows = [("dog", "cat", 5, 1), ("dog", "ball", 3, 2), ("dog", "bark", 3, 3), ("dog", "pet", 1, 4)]
    frame = pd.DataFrame(rows, columns=["cue", "response", "count", "rank"])
    lists = pd.DataFrame({"cue": ["dog"], "responses": [["bark", "pet"]]})
    scored = precision.score_lists(lists, frame, english, ks=[1, 2, 3], min_count=1)
    assert scored.set_index(["k", "reading"])["precision"].unstack("k").loc["top"].tolist() == [0, 1 / 2, 1 / 3]
    # A half of six people with a fourfold tie at its second place: the other half's answers to it are all right.
    trials = pd.DataFrame({"cue": ["dog"] * 6, "R1": ["cat"] * 6, "R2": ["bark", "ball", "pet"] * 2, "R3": ""})
    table = precision.estimate_ceiling(trials, ["dog"], english, ks=[2], splits=40, seed=0).set_index("reading")["precision"]
    assert table["top"] == table["attested"] < 1


def test_reverse_pairs(english):
    frame = pd.DataFrame({"cue": ["dog", "cat", "sun"], "response": ["cat", "Dog", "hot"], "count": 1})
    assert precision.find_reverse_pairs(frame, ["dog", "sun"], ["cat"], english, k=5) == {"dog"}
    tied = pd.DataFrame({"cue": ["dog", "dog", "cat"], "response": ["bone", "cat", "dog"], "count": [2, 2, 1]})
    assert precision.find_reverse_pairs(tied, ["dog"], ["cat"], english, k=1) == {"dog"}, "of equal strength"


def test_cues_that_people_answered_are_a_subset_of_their_own(cfg):
    trials = pd.DataFrame({"cue": ["dog"] * 4 + ["sun"] * 4, "R1": ["cat"] * 7 + [""], "R2": "", "R3": ""})
    own = CultureNorms(NORMS, {"train": [], "test": ["dog", "sun"]}, cfg.root, trials)
    assert precision.list_answered(own) == ["dog"], "the sun has three answers"
    lists = pd.DataFrame({"cue": ["dog", "sun"], "responses": [["cat"], ["xyz"]]})
    lists = lists.assign(culture="us", model="tiny", stage="sft", seed=1)
    families = {("us", "dog"): 0, ("us", "sun"): 1}
    scored = precision.score_conditions(cfg, lists, {"us": own}, families, ks=[1])
    table = precision.summarise_precision(scored, **cfg.bootstrap).query("k == 1 and reading == 'attested'").set_index("subset")
    assert table["value"].to_dict() == {"all": 0.5, "no_reverse": 0.5, "answered": 1.0} and table["n"].tolist() == [2, 2, 1]
    ceiling = precision.summarise_ceiling(cfg, {"us": own}, families)
    assert ceiling["subset"].eq("answered").all() and ceiling["n"].eq(1).all()


def test_reward_earns_nothing_for_tricks(english):
    parts = config_settings.Reward(k=3, precision=0.5, strength=0.5)
    human = {"cat": 0.5, "bone": 0.3, "bark": 0.1, "pet": 0.05}
    best = reward.score_reward(["cat", "bone", "bark"], human, english, parts)
    assert best == pytest.approx(1.0)
    assert reward.score_reward(["cat"] * 3, human, english, parts) == pytest.approx(0.5 / 3 + 0.5 * 0.5 / 0.9)
    assert reward.score_reward([], human, english, parts) == 0
    assert reward.score_reward(["moon"], human, english, parts) == 0
    assert reward.score_reward(["pet", "bark", "bone"], human, english, parts) < best, "strength counts"
