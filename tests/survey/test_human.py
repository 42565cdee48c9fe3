"""The human side: sound items in, damaged ones out by rule and by name; GlobalOpinionQA matched by the official wording."""

import pandas as pd
import pytest
from conftest import ROOT

from align_utils import config
from align_utils.store.textfiles import DataError
from align_utils.survey.human import load_human
from align_utils.survey.items import load_items


@pytest.fixture(scope="module")
def items():
    return load_items(ROOT / "data" / "survey")


def real(tmp_path, text, name="distributions.csv"):
    (tmp_path / "swow").mkdir(exist_ok=True)
    (tmp_path / "wvs").mkdir(exist_ok=True)
    (tmp_path / "wvs" / name).write_text(text)
    return config.load("cpu_real", data_dir=tmp_path)


def test_damaged_items_are_rejected_with_the_reason(tmp_path, items):
    rows = ["question,country,answer,share"]
    good = {1: 0.5, 2: 0.3, 3: 0.1, 4: 0.1}
    for country in ("USA", "CHN"):
        rows += [f"Q2,{country},{code},{share}" for code, share in good.items()]
        rows += [f"Q4,{country},{code},{share if country == 'USA' else 0.1}" for code, share in good.items()]
    rows += [f"Q6,USA,{code},{share}" for code, share in good.items()]
    rows += ["Q57,USA,1,0.6", "Q57,USA,3,0.4", "Q57,CHN,1,0.6", "Q57,CHN,2,0.4"]
    human = load_human(real(tmp_path, "\n".join(rows)), items)
    shares, rejected = human.shares, human.rejected
    assert set(shares["question"]) == {"Q2"}
    reasons = dict(zip(rejected["question"], rejected["reason"], strict=True))
    assert "sum to 0.40" in reasons["Q4"] and "no answers from CHN" in reasons["Q6"] and "outside the scale" in reasons["Q57"]


def test_official_microdata_are_weighted_and_missing_codes_dropped(tmp_path, items):
    text = "\ufeffB_COUNTRY_ALPHA,D_INTERVIEW,W_WEIGHT,Q2\nUSA,1,3,1\nUSA,1,1,2\nUSA,2,5,-1\nCHN,3,1,4\nCHN,4,1,4\nTWN,5,9,1\n"
    shares = load_human(real(tmp_path, text, "WVS_Cross-National_Wave_7_csv_v6_0.csv"), items).shares
    wide = shares.pivot(index="culture", columns="code", values="share")
    assert wide.loc["us"].tolist() == pytest.approx([0.75, 0.25, 0, 0]) and wide.loc["cn", 4] == 1
    assert shares.groupby("culture")["n"].first().to_dict() == {"cn": 2, "us": 2}


def test_microdata_codes_are_repaired_and_unknown_ones_reject_the_item(tmp_path, items):
    rows = ["B_COUNTRY_ALPHA,W_WEIGHT,Q254,Q247,Q4"]
    for country in ("USA", "CHN"):
        rows += [f"{country},1,5,0,1", f"{country},2,1,1,9", f"{country},1,4,10,1"]
    human = load_human(real(tmp_path, "\n".join(rows), "WVS_Cross-National_Wave_7_csv_v6_0.csv"), items)
    people = human.shares[human.shares["culture"] == "us"].set_index(["question", "code"])
    assert people.loc["Q254", "share"].tolist() == pytest.approx([2 / 3, 0, 0, 1 / 3]) and set(people.loc["Q254", "n"]) == {2}
    assert people.loc[("Q247", 1), "share"] == pytest.approx(0.75) and set(people.loc["Q247", "n"]) == {3}
    assert human.rejected.set_index("question").loc["Q4", "reason"] == "USA has codes [9] outside the scale"


def test_codes_below_zero_are_no_answer_in_shares_too(tmp_path, items):
    rows = ["question,country,answer,share"]
    for country in ("USA", "CHN"):
        rows += [f"Q2,{country},-1,0.15", f"Q2,{country},-2,0.05"]
        rows += [f"Q2,{country},{code},{share}" for code, share in {1: 0.4, 2: 0.2, 3: 0.1, 4: 0.1}.items()]
    human = load_human(real(tmp_path, "\n".join(rows)), items)
    shares, rejected = human.shares, human.rejected
    assert shares.query("culture == 'us'")["share"].tolist() == pytest.approx([0.5, 0.25, 0.125, 0.125])
    assert rejected.set_index("question").loc["(file)", "reason"].startswith("4 rows of codes below 0 (no answer) left out")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["Q2,USA,1.9,0.5"], r"line 2, column 'answer': expected a whole code, found '1\.9'"),
        # The reason of what is there, not that of the items that are not.
        (
            ["Q2,USA,1,0", "Q2,CHN,1,0"],
            r"none of our 60 items is usable in all of USA, CHN \(of Q2: shares of USA sum to 0\.00\)",
        ),
    ],
)
def test_shares_that_cannot_be_used_stop_with_the_cause(tmp_path, items, rows, message):
    with pytest.raises(DataError, match=message):
        load_human(real(tmp_path, "\n".join(["question,country,answer,share", *rows])), items)


def test_research_shares_are_sorted_out_by_rule(real_data):
    items = load_items(ROOT / "data" / "survey", choice="all")
    human = load_human(config.load("cpu_real", data_dir=real_data), items)
    shares, rejected = human.shares, human.rejected
    assert shares["question"].nunique() == 36 and len(rejected) == 233 - 36
    damaged = {"Q158", "Q160", "Q163", "Q164", "Q171", "Q169", "Q45", "Q182", "Q195", "Q180"}
    assert not damaged & set(shares["question"]) and damaged & set(items["question"]) <= set(rejected["question"])
    sums = shares.groupby(["question", "culture"])["share"].sum()
    assert pd.Series(sums).round(9).eq(1).all()


# GlobalOpinionQA.

OPINION_ITEMS = load_items(ROOT / "data" / "survey", choice="all").query("question in ['Q2', 'Q254', 'Q57', 'Q4']")
WORDING = (
    "question,language,text,options,origin\nQ2,en,How important are friends?,1. Very | 2. Rather | 3. Not very | 4. Not at all,official\n"
    "Q254,en,How proud?,1. Very | 2. Quite | 3. Little | 4. Not at all | 5. I am no national,official\n"
    "Q57,en,Can people be trusted?,1. Most can | 2. Be careful,official\nQ4,en,Politics?,1. Very | 2. Rather | 3. Not very | 4. Not at all,official\n"
)


def pick(**shares):
    return f"defaultdict(<class 'list'>, {shares or ''})".replace("United_States", "United States")


def load_opinions(tmp_path, rows, wording=WORDING):
    for name in ("swow", "wvs"):
        (tmp_path / name).mkdir(exist_ok=True)
    frame = pd.DataFrame(rows, columns=["question", "selections", "options", "source"])
    frame.to_csv(tmp_path / "wvs" / "global_opinions.csv", index=False)
    if wording:
        (tmp_path / "wvs" / "questions.csv").write_text(wording)
    human = load_human(config.load("cpu_real", data_dir=tmp_path), OPINION_ITEMS)
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
    shares, rejected = load_opinions(tmp_path, [GOOD, other, proud, one])
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
    shares, rejected = load_opinions(tmp_path, [(GOOD[0], selections, options, "WVS"), proud])
    assert said in rejected.set_index("question")["reason"]["Q2"] and set(shares["question"]) == {"Q254"}


def test_files_that_cannot_be_read_say_why(tmp_path):
    with pytest.raises(DataError, match="row 1 below the header, column 'selections': no Python literal"):
        load_opinions(tmp_path, [(GOOD[0], "defaultdict(<class 'list'>, {'China': [", FOUR, "WVS")])
    (tmp_path / "wvs" / "questions.csv").unlink()
    with pytest.raises(DataError, match=r"(?s)global_opinions.csv.*official English wording.*questions.csv"):
        load_opinions(tmp_path, [GOOD], wording="")
    with pytest.raises(DataError, match="column question not found"):
        (tmp_path / "wvs" / "global_opinions.csv").write_text("a,selections,options,source\n")
        load_human(config.load("cpu_real", data_dir=tmp_path), OPINION_ITEMS)
