"""Human level: a test that can pass, can fail, and says where it cannot tell."""

import numpy as np
import pandas as pd
import pytest

from align_utils.lexical import ratings
from align_utils.norms.split import CultureNorms


def test_equivalence_is_granted_only_within_the_margin_and_with_enough_cues():
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 0.1, 50), rng.normal(0.5, 0.1, 50)
    granted = ratings.show_equivalence(near, range(50), 0.1)
    assert granted["p"] < 0.001 and -0.1 < granted["low"] < granted["high"] < 0.1
    assert ratings.show_equivalence(far, range(50), 0.1)["p"] > 0.99
    assert ratings.show_equivalence(rng.normal(0, 1, 5), range(5), 0.1)["p"] > 0.05, "no evidence is not equivalence"
    copies = ratings.show_equivalence(np.repeat(near[:4], 50), np.repeat(range(4), 50), 0.1)
    assert copies["n"] == 4 and copies["p"] == pytest.approx(ratings.show_equivalence(near[:4], range(4), 0.1)["p"])


@pytest.mark.parametrize("margin", [0.3, 0.45, 0.8])
def test_the_power_is_how_often_equal_means_pass(margin):
    """Against simulation: 20 groups of standard deviation 1 whose mean is 0."""
    rng = np.random.default_rng(1)
    found = [ratings.show_equivalence(rng.normal(0, 1, 20), range(20), margin) for _ in range(2000)]
    # The power of one sample knows its own spread alone; over samples it lies about the share that passes.
    assert np.mean([one["power"] for one in found]) == pytest.approx(np.mean([one["p"] < 0.05 for one in found]), abs=0.06)
    assert ratings.show_equivalence([0.2, -0.2], ["a", "b"], 0.01)["power"] == 0


def judge(cfg, people_say, model_says, values):
    """The verdicts on one culture's valence: people answer every cue with `people_say`, strongest first, a stage with `model_says`."""
    cues = [f"cue {number}" for number in range(len(values))]
    rows = [
        {"cue": cue, "response": f"{word} {cue}", "strength": strength, "count": int(100 * strength)}
        for cue in cues
        for word, strength in people_say.items()
    ]
    people = {"us": CultureNorms(pd.DataFrame(rows), {"test": cues}, cfg.root)}
    lists = pd.DataFrame({"cue": cues, "responses": [[f"{word} {cue}" for word in model_says] for cue in cues]})
    scale = pd.Series(
        {f"{word} {cue}": value for cue, words in zip(cues, values, strict=True) for word, value in words.items()}
    )
    frame = ratings.rate_conditions(
        cfg, lists.assign(culture="us", model="tiny", stage="sft"), people, {"us": {"valence": scale}}
    )
    families = {("us", cue): number for number, cue in enumerate(cues)}
    return ratings.judge_human_level(cfg, frame, people, families).set_index("stage")


def spread(**words):
    rng = np.random.default_rng(3)
    return [{word: value + rng.normal(0, 0.2) for word, value in words.items()} for _ in range(30)]


SAID = {"a": 0.4, "b": 0.3, "c": 0.1, "d": 0.1, "e": 0.06, "f": 0.04}


def test_a_stage_near_people_passes_and_one_far_from_them_fails(cfg):
    values = spread(a=5, b=5, c=5, d=5, e=5, f=5, good=8)
    near, far = judge(cfg, SAID, ["b", "d"], values), judge(cfg, SAID, ["good", "a"], values)
    assert near["verdict"].to_dict() == {"human_top5": "at human level", "sft": "at human level"}
    assert near.index[0] == "human_top5" and near["margin"].eq(0.5).all() and near["power"].gt(0.99).all(), (
        "a sixteenth of 1 to 9"
    )
    assert far.loc["sft", "verdict"] == "differs" and far.loc["sft", "value"] == pytest.approx(1.5, abs=0.1)


def test_where_peoples_own_five_strongest_fail_no_stage_is_judged(cfg):
    """The sixth response, one in 25, is extreme only in name: half of people's answers lie in a tail that no list of five shows."""
    said = {word: 0.1 for word in "abcde"} | {f"rare {number}": 0.05 for number in range(10)}
    values = spread(**dict.fromkeys("abcde", 4), **{f"rare {number}": 8 for number in range(10)})
    verdicts = judge(cfg, said, ["a", "rare 1"], values)
    assert verdicts["verdict"].eq("not testable").all() and verdicts.loc["human_top5", "p"] > 0.9
    assert verdicts.loc["sft", "p"] < 0.05, "though its mean lies within the margin by itself"
