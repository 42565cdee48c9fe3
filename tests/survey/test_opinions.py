"""GlobalOpinionQA: rows matched by the official wording, other samples and damaged rows left out by name."""

import pandas as pd
import pytest
from conftest import ROOT

from align_utils.config import profiles as config
from align_utils.store.textfiles import DataError
from align_utils.survey import items as survey_items
from align_utils.survey.human import load_human

ITEMS = survey_items.load_items(ROOT / "data" / "survey", choice="all")
ITEMS = ITEMS[ITEMS["question"].isin(["Q2", "Q254", "Q57", "Q4"])]
WORDING = (
    "question,language,text,options,origin\nQ2,en,How important are friends?,1. Very | 2. Rather | 3. Not very | 4. Not at all,official\n"
    "Q254,en,How proud?,1. Very | 2. Quite | 3. Little | 4. Not at all | 5. I am no national,official\n"
    "Q57,en,Can people be trusted?,1. Most can | 2. Be careful,official\nQ4,en,Politics?,1. Very | 2. Rather | 3. Not very | 4. Not at all,official\n"
)


def pick(**shares):
    return f"defaultdict(<class 'list'>, {shares or ''})".replace("United_States", "United States")


def load(tmp_path, rows, wording=WORDING):
    for name in ("swow", "wvs"):
        (tmp_path / name).mkdir(exist_ok=True)
    frame = pd.DataFrame(rows, columns=["question", "selections", "options", "source"])
    frame.to_csv(tmp_path / "wvs" / "global_opinions.csv", index=False)
    if wording:
        (tmp_path / "wvs" / "questions.csv").write_text(wording)
    human = load_human(config.load("cpu_real", data_dir=tmp_path), ITEMS)
    return human.shares, human.rejected


FOUR = "['Very', 'Rather', 'Not very', 'Not at all', \"Don't know\", 'Missing; Unknown']"
GOOD = (
    "How  important are friends",
    pick(United_States=[0.4, 0.2, 0.1, 0.1, 0.2, 0], China=[0.1, 0.2, 0.3, 0.4, 0, 0], Chile=[1]),
    FOUR,
    "WVS",
)


def test_answers_are_matched_and_what_is_no_answer_left_out(tmp_path):
    other = ("How proud?", pick(United_States=[1]), "['Very']", "GAS")  # another survey's row of the same words
    proud = (
        "How proud?",
        pick(United_States=[0.5, 0, 0, 0.25, 0.25], China=[0.25] * 4 + [0]),
        "['Very','Quite','Little','Not at all','I am no national']",
        "WVS",
    )
    one = ("Can people be trusted?", pick(United_States=[1.0], China=[1.0]), "['Most can']", "WVS")
    shares, rejected = load(tmp_path, [GOOD, other, proud, one])
    wide = shares.set_index(["question", "culture", "code"])["share"]
    assert wide["Q2", "us"].tolist() == pytest.approx([0.5, 0.25, 0.125, 0.125]) and wide["Q2", "cn"].tolist() == pytest.approx(
        [0.1, 0.2, 0.3, 0.4]
    )
    assert wide["Q254", "us"].tolist() == pytest.approx([2 / 3, 0, 0, 1 / 3]) and shares["n"].isna().all()
    reasons = rejected.set_index("question")["reason"]
    assert "1 options are not two" in reasons["Q57"] and "0 rows" in reasons["Q4"] and len(reasons) == 2


@pytest.mark.parametrize(
    ("selections", "options", "said"),
    [
        (pick(United_States=[0.5, 0.5], China=[0.1] * 6), FOUR, "United States has 2 shares for 6 options"),
        (pick(United_States=[0, 0, 0, 0, 1, 0], China=[0.1] * 6), FOUR, "nobody in United States gave an answer"),
        (pick(United_States=[40, 30, 20, 10, 0, 0], China=[0.1] * 6), FOUR, "shares of United States sum to 100.00"),
        (GOOD[1].replace("China", "China (Non-national sample)"), FOUR, "China has no shares"),
        (GOOD[1], FOUR.replace("Rather", "So so"), "option 'So so' is not in questions.csv"),
    ],
)  # fmt: skip
def test_damaged_rows_are_rejected_by_name(tmp_path, selections, options, said):
    proud = ("How proud?", pick(United_States=[0.25] * 4, China=[0.25] * 4), "['Very','Quite','Little','Not at all']", "WVS")
    shares, rejected = load(tmp_path, [(GOOD[0], selections, options, "WVS"), proud])
    assert said in rejected.set_index("question")["reason"]["Q2"] and set(shares["question"]) == {"Q254"}


def test_files_that_cannot_be_read_say_why(tmp_path):
    with pytest.raises(DataError, match="row 1 below the header, column 'selections': no Python literal"):
        load(tmp_path, [(GOOD[0], "defaultdict(<class 'list'>, {'China': [", FOUR, "WVS")])
    (tmp_path / "wvs" / "questions.csv").unlink()
    with pytest.raises(DataError, match=r"(?s)global_opinions.csv.*official English wording.*questions.csv"):
        load(tmp_path, [GOOD], wording="")
    with pytest.raises(DataError, match="column question not found"):
        (tmp_path / "wvs" / "global_opinions.csv").write_text("a,selections,options,source\n")
        load_human(config.load("cpu_real", data_dir=tmp_path), ITEMS)
