"""Equivalence: hand-worked margins, and what the two one-sided tests must and must not grant."""

import math

import numpy as np
import pandas as pd
import pytest

from align_utils.lexical import ratings


def test_halves_worked_by_hand(english):
    # Two people: one half is each of them, so the difference is 4 - 2 or 2 - 4; the unrated word counts for nobody.
    trials = pd.DataFrame({"cue": ["dog"] * 3, "R1": ["Cat", "bone", "xyz"], "R2": ["cat", "", ""], "R3": ["", "", ""]})
    scale = pd.Series({"cat": 4.0, "bone": 2.0})
    differences, cues = ratings.halve_ratings(trials, ["dog"], scale, english, splits=40, seed=0)
    assert set(differences) == {-2.0, 2.0} and ratings.find_margin(differences) == 2 and cues == ["dog"]
    none, cues = ratings.halve_ratings(trials, ["sun"], scale, english, splits=5, seed=0)
    assert len(none) == 0 and cues == []
    assert math.isnan(ratings.find_margin(np.empty(0)))


def test_a_half_is_weighted_by_its_rated_responses(english):
    trials = pd.DataFrame({"cue": ["dog"] * 2, "R1": ["cat", "bone"], "R2": ["cat", "cat"], "R3": ["bone", ""]})
    scale = pd.Series({"cat": 4.0, "bone": 1.0})
    differences, cues = ratings.halve_ratings(trials, ["dog"], scale, english, splits=20, seed=1)
    assert set(np.round(differences, 6)) == {0.5, -0.5}, "(4+4+1)/3 against (1+4)/2"


def test_equivalence_is_granted_only_within_the_margin_and_with_enough_cues():
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 0.1, 50), rng.normal(0.5, 0.1, 50)
    granted = ratings.show_equivalence(near, range(50), 0.1)
    assert granted["p"] < 0.001 and -0.1 < granted["low"] < granted["high"] < 0.1
    assert ratings.show_equivalence(far, range(50), 0.1)["p"] > 0.99
    assert ratings.show_equivalence(rng.normal(0, 1, 5), range(5), 0.1)["p"] > 0.05, "no evidence is not equivalence"
    copies = ratings.show_equivalence(np.repeat(near[:4], 50), np.repeat(range(4), 50), 0.1)
    assert copies["n"] == 4 and copies["p"] == pytest.approx(ratings.show_equivalence(near[:4], range(4), 0.1)["p"])
    assert math.isnan(ratings.show_equivalence(near, range(50), float("nan"))["p"])
