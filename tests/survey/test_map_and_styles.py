"""The map's indices and response styles by hand."""

import shutil

import pandas as pd
import pytest
from conftest import ROOT

from align_utils.store.textfiles import DataError
from align_utils.survey import items as survey_items
from align_utils.survey import map as culture_map
from align_utils.survey import styles

FOLDER = ROOT / "data" / "survey"
AXES = culture_map.load_axes(FOLDER)
ALL = survey_items.load_items(FOLDER, choice="all", nominal=True)
NAMES = {"model": "m", "adapter": "none", "stage": "zero_shot", "language": "en", "persona": "none"}


def answer(shares, **names):
    rows = [{**NAMES, **names, "question": q, "code": c, "share": p} for q, row in shares.items() for c, p in row.items()]
    return pd.DataFrame(rows)


def test_every_end_of_the_bundled_map_points_the_right_way():
    codes = {row.question: row.codes for row in ALL.itertuples()}
    # One secular, self-expressing answerer: codes as in the official questionnaire.
    modern = {
        "Q164": 1, "Q8": 1, "Q14": 1, "Q15": 2, "Q17": 2, "Q184": 10, "Q254": 4, "Q45": 3, "Q154": 2, "Q155": 4, "Q46": 1,
        "Q182": 10, "Q209": 1, "Q57": 1,
    }  # fmt: skip
    named = list(culture_map.list_weights(AXES)["question"].unique())
    assert sorted(named) == sorted(modern)
    shares = {q: {code: float(code == modern[q]) for code in codes[q]} for q in named}
    scores = culture_map.score_components(AXES, answer(shares))
    assert len(scores) == 10 and scores["value"].tolist() == [1.0] * 10
    opposite = {q: {codes[q][-1 if codes[q][0] == modern[q] else 0]: 1.0} for q in named if q not in {"Q154", "Q155"}}
    opposite |= {"Q154": {1: 1.0}, "Q155": {3: 1.0}}
    assert culture_map.score_components(AXES, answer(opposite))["value"].tolist() == [0.0] * 10


def test_missing_items_are_left_out_and_named(cfg):
    half = {q: {1: 0.5, n: 0.5} for q, n in (("Q164", 10), ("Q45", 3), ("Q57", 2))}
    tuned = {q: {1: 1.0, n: 0.0} for q, n in (("Q164", 10), ("Q45", 3), ("Q57", 2))}
    both = pd.concat([answer(half), answer(tuned, adapter="cn", stage="sft")])
    scores = culture_map.score_components(AXES, both)
    table = culture_map.summarise_map(scores, **cfg.bootstrap).set_index(["stage", "axis"])
    assert table.loc[("zero_shot", "traditional_secular"), ["value", "n", "items"]].tolist() == [0.5, 2, 2]
    # Importance of God falls to the first point (secular: 1), respect for authority rises to it (traditional: 0).
    assert table.loc[("sft", "traditional_secular"), "value"] == 0.5
    assert table.loc[("sft", "survival_selfexpression"), "move"] == 0.5
    said = culture_map.describe_axes(AXES, scores)
    assert "traditional to secular-rational: god, authority (not in this run: autonomy, abortion, pride)" in said
    more = pd.concat([both, answer({"Q254": {1: 1.0}})])  # of one answerer alone
    assert len(culture_map.score_components(AXES, more)) == len(scores)
    with pytest.raises(DataError, match="none of the map's items"):
        culture_map.score_components(AXES, both.assign(question="Q2"))


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("god: {Q164: -1}", "god: {Q999: -1}", "Q999 is no item"),
        ("god: {Q164: -1}", "god: {Q45: -1}", "Q45 stands twice"),
        ("god: {Q164: -1}", "god: {Q164: 2}", "expected 1, -1 or scores"),
        ("Q154: {2: 1, 4: 1}", "Q154: {5: 1}", "Q154: expected"),
        ("upper: self-expression", "top: self-expression", "expected the fields"),
        ("shift: 0.038", "offset: 0.038", "published: expected scale"),
        ("god: F063, ", "", "published: .* one a component"),
        ("survival_selfexpression:", "other: {}\nsurvival_selfexpression:", "two axes"),
    ],
)
def test_a_wrong_map_is_refused(tmp_path, old, new, found):
    text = (FOLDER / "map.yaml").read_text(encoding="utf-8")
    assert old in text
    folder = shutil.copytree(FOLDER, tmp_path / "survey")
    (folder / "map.yaml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=found):
        culture_map.load_axes(folder)


def test_styles_worked_by_hand():
    items = survey_items.load_items(FOLDER, choice="all").set_index("question", drop=False)
    shares = {
        "Q33": {1: 0.4, 2: 0.2, 3: 0.3, 4: 0.1, 5: 0.0},  # strongly agree first; a middle point
        "Q122": {0: 0.5, 1: 0.2, 2: 0.3},  # disagree first; three points have no extremes
        "Q27": {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4},  # no middle point
        "Q158": {code: 0.1 for code in range(1, 11)},  # disagree first, ten points
        "Q2": {1: 0.7, 2: 0.1, 3: 0.1, 4: 0.1},  # no scale of agreement
        "Q57": {1: 0.9, 2: 0.1},  # two points show no style
    }
    found = styles.score_styles(answer(shares), items.loc[list(shares)].reset_index(drop=True))
    found = found.set_index(["style", "question"])["value"]
    assert found["acquiescence"].to_dict() == pytest.approx({"Q33": 0.5, "Q122": -0.2, "Q27": -0.4, "Q158": 0.0})
    assert found["midpoint"].to_dict() == pytest.approx({"Q33": 0.3, "Q122": 0.2, "Q158": 0.2})
    assert found["extremes"].to_dict() == pytest.approx({"Q33": 0.4, "Q27": 0.5, "Q158": 0.2, "Q2": 0.8})
