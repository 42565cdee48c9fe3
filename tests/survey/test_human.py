"""People's files and their mutations: the same shares, a clear error, or a counted repair; GlobalOpinionQA; how firm the shares are."""

import copy
import csv
import dataclasses
import functools
import gzip
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from surveys import make_answers, make_people

from align_utils import config
from align_utils.store.steps import MissingInput
from align_utils.store.textfiles import DataError
from align_utils.survey import distances as survey_distances
from align_utils.survey import human as survey_human
from align_utils.survey import items as survey_items
from align_utils.survey.human import (
    Human,
    describe_choice,
    describe_people,
    draw_choice,
    draw_halves,
    draw_shares,
    load_human,
)  # fmt: skip

NAME = "WVS_Cross-National_Wave_7_csv_v6_0.csv"
ALL = survey_items.load_items(ROOT / "data" / "survey", choice="all")
CORE = ALL[ALL["core"]]
# A plain scale, one with a code to drop (Q254: 5) and one with a code to merge (Q247: 0 is 1).
ITEMS = ALL[ALL["question"].isin(["Q2", "Q254", "Q247"])].reset_index(drop=True)
TWO = ALL[ALL["question"] == "Q57"]
SIZES = {"USA": 900, "CHN": 1200}
# A file is written at each example: no shrinking, which would take minutes to say what the example says already.
QUICK = settings(deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
PEOPLE = make_people(ITEMS, sizes={"USA": 40, "CHN": 50, "TWN": 10}, seed=5).assign(N_TOWN="x")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    (path / "swow").mkdir()
    (path / "wvs").mkdir()
    return path


def load(folder, content, *, items=ITEMS, name=NAME, beside=None, cultures=None):
    shutil.rmtree(folder / "wvs")
    for file, held in {name: content, **(beside or {})}.items():
        path = folder / "wvs" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(held if isinstance(held, bytes) else held.encode())
    cfg = configure(folder)
    if cultures:
        cfg = copy.copy(cfg)
        vars(cfg)["cultures"] = cultures
    human = load_human(cfg, items)
    return human.shares, human.rejected


@functools.cache
def configure(folder):
    return config.load("cpu_real", data_dir=folder)


def write(frame, separator=","):
    return frame.to_csv(index=False, sep=separator)


def work_out(frame):
    """Weighted shares by another road: (question, country, code) to share, of what the rules say is an answer."""
    shares = {}
    for item in ITEMS.itertuples():
        for country in ("USA", "CHN"):
            part = frame[(frame["B_COUNTRY_ALPHA"] == country) & (frame["W_WEIGHT"] > 0)]
            given = [(item.recode.get(code, code), w) for code, w in zip(part[item.question], part["W_WEIGHT"], strict=True)]
            given = [(code, w) for code, w in given if code >= 0 and code not in item.drop]
            total = sum(w for _, w in given)
            for code in item.codes:
                shares[item.question, country, code] = sum(w for c, w in given if c == code) / total if total else np.nan
    return shares


def agree(shares, frame, questions=("Q2", "Q254", "Q247")):
    truth, names = work_out(frame), {"us": "USA", "cn": "CHN"}
    assert set(shares["question"]) == set(questions)
    for row in shares.itertuples():
        assert row.share == pytest.approx(truth[row.question, names[row.culture], row.code], abs=1e-9)


def change(frame, row, **cells):
    frame = frame.copy().astype(object)
    for column, value in cells.items():
        frame.loc[row, column] = value
    return frame


HARMLESS = {
    "byte-order mark and CRLF": lambda frame: b"\xef\xbb\xbf" + write(frame).replace("\n", "\r\n").encode(),
    "semicolon": lambda frame: write(frame, ";"),
    "TAB": lambda frame: write(frame, "\t"),
    "all in quotation marks, with row names": lambda frame: frame.to_csv(quoting=csv.QUOTE_ALL),
    "UTF-16": lambda frame: write(frame).encode("utf-16"),
    "columns in another order": lambda frame: write(frame[frame.columns[::-1]]),
    "rows in another order": lambda frame: write(frame.sample(frac=1, random_state=1)),
    "Latin-1 where nobody reads": lambda frame: write(frame.assign(N_TOWN="Málaga")).encode("latin-1"),
    "names in small letters": lambda frame: write(frame.rename(columns=str.lower)),
    "decimals behind codes": lambda frame: write(frame.astype({"Q2": float})),
    "no interview number": lambda frame: write(frame.drop(columns="D_INTERVIEW")),
}
FATAL = {  # the change at a row, and what the error says besides the file
    "other separator": (lambda frame, row: write(frame, "~"), "line 1: one column"),
    "no weights": (lambda frame, row: write(frame.drop(columns="W_WEIGHT")), "line 1: no column W_WEIGHT"),
    "weights twice": (lambda frame, row: write(frame).replace("N_TOWN", "W_WEIGHT", 1), "W_WEIGHT stands twice"),
    "label": (lambda frame, row: write(change(frame, row, Q2="Very important")), "line {line}, column 'Q2': .*'Very important'"),
    "decimal comma": (lambda frame, row: write(change(frame, row, W_WEIGHT='0,5')), "line {line}, column 'W_WEIGHT': .*'0,5'"),
    "half a code": (lambda frame, row: write(change(frame, row, Q247=2.5)), "line {line}, column 'Q247': .*whole code, found 2.5"),
    "negative weight": (lambda frame, row: write(change(frame, row, W_WEIGHT=-1)), "line {line}, column 'W_WEIGHT': .*found -1"),
    "infinite weight": (lambda frame, row: write(change(frame, row, W_WEIGHT="inf")), "line {line}, column 'W_WEIGHT': .*found inf"),
    "cut off": (lambda frame, row: "\n".join([*write(frame).split("\n")[: row + 1], "USA,1"]), "line {line}: Expected 7 columns, got 2"),
    "a field too many": (lambda frame, row: write(change(frame, row, N_TOWN="\x00")).replace("\x00", "a,b"), "line {line}: Expected 7 col"),
    "Latin-1 header": (lambda frame, row: write(frame.rename(columns={"N_TOWN": "Años"})).encode("latin-1"), "line 1: not UTF-8"),
    "no one of a country": (lambda frame, row: write(frame[frame["B_COUNTRY_ALPHA"] != "CHN"]), "no respondent of CHN"),
    "no weights in a country": (
        lambda frame, row: write(frame.assign(W_WEIGHT=frame["W_WEIGHT"].where(frame["B_COUNTRY_ALPHA"] != "USA"))), "no respondent of USA",
    ),
    "joint file": (lambda frame, row: "cntry_AN,gwght,F120\nUS,1,3\n", "joint EVS/WVS, trend"),
    # Of the release with inverted scales only the items that are turned have another name.
    "turned": (lambda frame, row: write(frame.rename(columns={"Q2": "Q2P", "Q247": "Q247P"})), "column Q2P, Q247P and none without P: .*'inverted'"),
    "another wave": (lambda frame, row: write(frame.rename(columns=lambda c: c.replace("Q", "V"))), "none of our questions .*trend or other wave's"),
    "nothing": (lambda frame, row: "", "empty file"),
    "only a header": (lambda frame, row: write(frame[:0]), "no respondent below it"),
}  # fmt: skip


@settings(QUICK, max_examples=15)
@given(name=st.sampled_from(sorted(HARMLESS)), size=st.integers(60, 100))
def test_what_does_not_matter_changes_nothing(folder, name, size):
    frame = PEOPLE.head(size)
    shares, rejected = load(folder, HARMLESS[name](frame))
    agree(shares, frame)
    assert rejected.empty


@settings(QUICK, max_examples=60)
@given(name=st.sampled_from(sorted(FATAL)), row=st.integers(0, 89))
def test_what_cannot_be_read_stops_with_file_line_and_column(folder, name, row):
    spoil, said = FATAL[name]
    with pytest.raises(DataError, match=rf"(?s){NAME}.*{said.format(line=row + 2)}"):
        load(folder, spoil(PEOPLE, row))


@settings(QUICK, max_examples=10)
@given(rows=st.sets(st.integers(0, 39), min_size=1, max_size=20), gone=st.sampled_from(["", "nan", "NA", "0"]))
def test_respondents_without_a_weight_are_left_out_and_counted(folder, rows, gone):
    frame = PEOPLE.copy().astype({"W_WEIGHT": object})
    frame.loc[sorted(rows), "W_WEIGHT"] = gone
    shares, rejected = load(folder, write(frame))
    agree(shares, PEOPLE.drop(index=sorted(rows)))
    assert rejected.values.tolist() == [["(file)", f"{NAME}: {len(rows)} respondents of USA without a weight left out"]]


@settings(QUICK, max_examples=10)
@given(rows=st.sets(st.integers(0, 89), min_size=1, max_size=20))
def test_repeated_rows_go_and_shared_numbers_stay_both_counted(folder, rows):
    rows = sorted(rows)
    shares, rejected = load(folder, write(pd.concat([PEOPLE, PEOPLE.loc[rows]])))
    agree(shares, PEOPLE)
    assert rejected["reason"].tolist() == [
        f"{NAME}: {len(rows)} rows that repeat another row with the same D_INTERVIEW left out"
    ]
    twin = PEOPLE.loc[rows].assign(W_WEIGHT=7.5)
    shares, rejected = load(folder, write(pd.concat([PEOPLE, twin])))
    agree(shares, pd.concat([PEOPLE, twin]))
    assert f"{2 * len(rows)} rows share a D_INTERVIEW" in rejected["reason"].item()


def test_items_without_answers_or_with_strange_codes_are_rejected_by_name(folder):
    is_us = PEOPLE["B_COUNTRY_ALPHA"] == "USA"
    cases = {
        "never asked": ({"Q2": PEOPLE["Q2"].mask(is_us, -4)}, "Q2", "no answers from USA"),
        "empty": ({"Q2": PEOPLE["Q2"].astype(object).mask(is_us, "")}, "Q2", "no answers from USA"),
        "all mass on a code to drop": ({"Q254": PEOPLE["Q254"].mask(is_us, 5)}, "Q254", "no answers from USA"),
        "outside the scale": ({"Q2": PEOPLE["Q2"].where(PEOPLE.index != 3, 9)}, "Q2", "USA has codes [9] outside the scale"),
    }
    for name, (cells, question, reason) in cases.items():
        shares, rejected = load(folder, write(PEOPLE.assign(**cells)))
        agree(shares, PEOPLE, {"Q2", "Q254", "Q247"} - {question})
        assert rejected.values.tolist() == [[question, reason]], name
    one = PEOPLE.assign(Q2=1)
    shares, rejected = load(folder, write(one))
    agree(shares, one)
    assert rejected.empty, "everybody of one mind is an answer"


def test_effective_n_is_worked_by_hand_and_other_releases_and_gzip_are_read(folder):
    text = "B_COUNTRY_ALPHA,W_WEIGHT,Q2\nUSA,3,1\nUSA,1,2\nUSA,5,-1\nCHN,1,4\nCHN,1,4\n"
    shares, _ = load(folder, gzip.compress(text.encode()), name="F00011356-WVS_Cross-National_Wave_7_csv_v5_0.csv.gz")
    sizes = shares.groupby("culture")[["n", "n_effective"]].first()
    assert sizes.loc["us"].tolist() == [2, pytest.approx(16 / 10)] and sizes.loc["cn"].tolist() == [2, 2]
    with pytest.raises(DataError, match=r"v5_0.csv.gz: damaged gzip|v5_0.csv.gz: .*fetch"):
        load(folder, gzip.compress(write(PEOPLE).encode())[:-30], name="WVS_Cross-National_Wave_7_csv_v5_0.csv.gz")


TURNED = "WVS_Cross-National_Wave_7_inverted_csv_v6_0.csv"


@pytest.mark.parametrize("other", [TURNED, f"{NAME}.bak", f"{NAME}~", NAME.replace(".csv", ".zip"), "unpacked/" + NAME])
def test_the_right_file_is_read_whatever_lies_beside_it(folder, other):
    shares, rejected = load(folder, write(PEOPLE), beside={other: "PK\x03"})
    agree(shares, PEOPLE)
    assert rejected.empty


def test_of_several_files_the_newest_release_is_read_and_the_others_are_named(folder):
    old, other = NAME.replace("v6", "v5"), NAME.replace("v6", "v10")
    shares, rejected = load(
        folder, write(PEOPLE.assign(Q2=1)), name=old, beside={other: write(PEOPLE), "distributions.csv": ""}
    )
    agree(shares, PEOPLE)
    assert f"{other} is read, not {old}, distributions.csv" in rejected["reason"].item()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("EVS_WVS_Joint_Csv_v5_0.csv", "joint EVS/WVS, trend or other wave's file: its question codes"),
        (TURNED, "the release with inverted scales; take the CSV without 'inverted'"),
        ("WVS_Cross-National_Wave_7_stata_v6_0.dta", "it ends otherwise: unpack, export or rename the table"),
        ("WVS_Cross-National_Wave_7_csv_v6_0/" + NAME, f"a folder; move {NAME} out of it"),
        ("global_opinions.csv.zip", "it ends otherwise: unpack"),
        ("answers.csv", "of another name: answers.csv"),
    ],
)
def test_where_no_file_is_the_surveys_what_is_there_is_named(folder, name, said):
    with pytest.raises(DataError, match=f"no survey file; expected .*{re.escape(said)}"):
        load(folder, write(PEOPLE), name=name)


@pytest.mark.parametrize("kind", ["respondents", "shares"])
def test_cultures_of_one_country_have_their_answers_each(folder, kind):
    found = configure(folder).cultures
    other = found["us"].model_copy(update={"name": "us2", "label": "US, other norms", "survey_name": ""})
    text, name = (write(PEOPLE), NAME) if kind == "respondents" else (write(AGGREGATED), "distributions.csv")
    shares, rejected = load(folder, text, name=name, items=ITEMS.head(1), cultures={"us2": other, **found})
    wide = shares.pivot(index="code", columns="culture", values="share")
    assert set(wide) == {"us", "us2", "cn"} and (wide["us"] == wide["us2"]).all()
    assert rejected.empty


OFFICIAL = (
    "question,language,text,options,origin\nQ2,en,Friends?,1. Very | 2. Rather | 3. Not very | 4. Not at all,official\n"
    "Q254,en,Proud?,1. Very proud | 2. Quite | 3. Little | 4. Not at all | 5. No national,official\n"
)


def test_a_file_a_country_with_labels_is_read_by_the_official_wording(folder):
    header = ";B_COUNTRY_ALPHA ISO code;W_WEIGHT Weight;Q2 Important in life: Friends;Q254 National pride\n"
    rows = ["1;USA;1.5;Very;Quite", "2;USA;0.5;Don't know;Quite", "3;USA;1.5;Not at all;No national"]
    for old in (folder / "wvs").iterdir():
        old.unlink()
    us, cn = (f"F00013339-WVS_Wave_7_{name}_CsvTxt_v5.0.csv" for name in ("United_States", "China"))
    (folder / "wvs" / us).write_text(header + "\n".join(rows) + "\n")
    cfg = config.load("cpu_real", data_dir=folder)
    with pytest.raises(DataError, match="of every country .*of another name: .*United_States"):
        load_human(cfg, ITEMS)
    # Without a country's column its name is the file's.
    (folder / "wvs" / cn).write_text(";W_WEIGHT Weight;Q2 Friends;Q254 Pride\n1;1;Rather;Quite\n2;3;Not very;Perhaps\n")
    with pytest.raises(DataError, match=r"(?s)column Q2: .*no option in questions.csv.*official wording"):
        load_human(cfg, ITEMS)
    (folder / "wvs" / "questions.csv").write_text(OFFICIAL)
    human = load_human(cfg, ITEMS)
    shares, rejected = human.shares, human.rejected
    wide = shares.pivot(index="culture", columns="code", values="share")
    assert wide.loc["us"].tolist() == [0.5, 0, 0, 0.5] and wide.loc["cn"].tolist() == [0, 0.25, 0.75, 0]
    reasons = rejected.set_index("question")["reason"]
    assert "label 'Perhaps'" in reasons["Q254"] and "not in" in reasons["Q247"]


AGGREGATED = pd.DataFrame(
    [("Q2", c, code, s, 900) for c in ("USA", "CHN") for code, s in enumerate([0.4, 0.3, 0.2, 0.1], start=1)]
    + [("Q254", c, code, s, 800) for c in ("USA", "CHN") for code, s in enumerate([0.1, 0.2, 0.3, 0.4], start=1)],
    columns=["question", "country", "answer", "share", "n"],
)
SHARES = {  # what is done to a row's file, and the error, or the reason to reject Q2
    "label": (lambda f, r: write(change(f, r, answer="Very")), "line {line}, column 'answer'.*'Very'"),
    "no share": (lambda f, r: write(change(f, r, share="")), "line {line}, column 'share'"),
    "NaN": (lambda f, r: write(change(f, r, share="nan")), "line {line}, column 'share'"),
    "negative": (lambda f, r: write(change(f, r, share=-0.1)), "line {line}, column 'share'"),
    "percent": (lambda f, r: write(change(f, r, share=40)), "line {line}, column 'share'"),
    "n of nobody": (lambda f, r: write(change(f, r, n=0)), "line {line}, column 'n'"),
    "twice": (lambda f, r: write(pd.concat([f, f.loc[[r]]])), "line 18: .*stand twice"),
    "cut off": (lambda f, r: "\n".join([*write(f).split("\n")[: r + 1], "Q2,USA"]), "line {line}: Expected 5"),
    "Latin-1": (lambda f, r: write(change(f, r, country="España")).encode("latin-1"), "line {line}: not UTF-8"),
}  # fmt: skip


@settings(QUICK, max_examples=20)
@given(name=st.sampled_from(sorted(SHARES)), row=st.integers(0, 15))
def test_damaged_shares_stop_with_file_line_and_column(folder, name, row):
    spoil, said = SHARES[name]
    with pytest.raises(DataError, match=rf"(?s)distributions.csv.*{said.format(line=row + 2)}"):
        load(folder, spoil(AGGREGATED, row), name="distributions.csv")


@settings(QUICK, max_examples=20)
@given(row=st.integers(0, 7), how=st.sampled_from(["gone", "zero", "all zero", "other n", "strange code", "all gone"]))
def test_unsound_shares_reject_their_item_and_no_other(folder, row, how):
    same = (AGGREGATED["question"] == "Q2") & (AGGREGATED["country"] == AGGREGATED.loc[row, "country"])
    frame = {
        "gone": lambda: AGGREGATED.drop(index=row),
        "zero": lambda: change(AGGREGATED, row, share=0),
        "all zero": lambda: AGGREGATED.assign(share=AGGREGATED["share"].mask(same, 0)),
        "other n": lambda: change(AGGREGATED, row, n=901),
        "strange code": lambda: change(AGGREGATED, row, answer=7),
        "all gone": lambda: AGGREGATED[~same],
    }[how]()
    country = AGGREGATED.loc[row, "country"]
    items = ITEMS[ITEMS["question"] != "Q247"]
    shares, rejected = load(folder, write(frame), items=items, name="distributions.csv")
    assert set(shares["question"]) == {"Q254"} and shares["share"].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4] * 2)
    said = {"other n": "different n", "strange code": "codes [7] outside", "all gone": "no answers from"}.get(how, "sum to")
    assert rejected["question"].tolist() == ["Q2"] and said in rejected["reason"][0] and country in rejected["reason"][0]


def test_shares_that_lost_a_little_are_made_to_sum_to_one_and_counted(folder):
    one = (AGGREGATED["question"] == "Q2") & (AGGREGATED["country"] == "USA")
    items = ITEMS[ITEMS["question"] != "Q247"]
    for total, kept in ((0.94, True), (0.96, True), (0.93, False)):
        shares, rejected = load(
            folder,
            write(AGGREGATED.assign(share=AGGREGATED["share"].mask(one, AGGREGATED["share"] * total))),
            items=items,
            name="distributions.csv",
        )
        own = shares[(shares["question"] == "Q2") & (shares["culture"] == "us")]["share"].tolist()
        assert own == (pytest.approx([0.4, 0.3, 0.2, 0.1]) if kept else [])
        assert rejected["question"].tolist() == ["(file)" if kept else "Q2"]
        assert ("1 items whose shares sum to 0.94" in rejected["reason"][0]) == kept and (
            "(Q2)" in rejected["reason"][0]
        ) == kept
    # A code that is missing is what was lost: nothing says how many took it.
    short = AGGREGATED.drop(index=AGGREGATED[one].index[0]).assign(
        share=lambda f: f["share"].mask((f["question"] == "Q2") & (f["country"] == "USA"), 0.95 / 3)
    )
    assert load(folder, write(short), items=items, name="distributions.csv")[1]["question"].tolist() == ["Q2"]


# Shares by country.


def test_official_microdata_are_weighted_and_missing_codes_dropped(folder):
    text = "\ufeffB_COUNTRY_ALPHA,D_INTERVIEW,W_WEIGHT,Q2\nUSA,1,3,1\nUSA,1,1,2\nUSA,2,5,-1\nCHN,3,1,4\nCHN,4,1,4\nTWN,5,9,1\n"
    shares, _ = load(folder, text, items=CORE)
    wide = shares.pivot(index="culture", columns="code", values="share")
    assert wide.loc["us"].tolist() == pytest.approx([0.75, 0.25, 0, 0]) and wide.loc["cn", 4] == 1
    assert shares.groupby("culture")["n"].first().to_dict() == {"cn": 2, "us": 2}


def test_microdata_codes_are_repaired_and_unknown_ones_reject_the_item(folder):
    rows = ["B_COUNTRY_ALPHA,W_WEIGHT,Q254,Q247,Q4"]
    rows += [f"{country},{row}" for country in ("USA", "CHN") for row in ("1,5,0,1", "2,1,1,9", "1,4,10,1")]
    shares, rejected = load(folder, "\n".join(rows), items=CORE)
    people = shares[shares["culture"] == "us"].set_index(["question", "code"])
    assert people.loc["Q254", "share"].tolist() == pytest.approx([2 / 3, 0, 0, 1 / 3]) and set(people.loc["Q254", "n"]) == {2}
    assert people.loc[("Q247", 1), "share"] == pytest.approx(0.75) and set(people.loc["Q247", "n"]) == {3}
    assert rejected.set_index("question").loc["Q4", "reason"] == "USA has codes [9] outside the scale"


def test_codes_below_zero_are_no_answer_in_shares_too(folder):
    given = {-1: 0.15, -2: 0.05, 1: 0.4, 2: 0.2, 3: 0.1, 4: 0.1}
    rows = [f"Q2,{country},{code},{share}" for country in ("USA", "CHN") for code, share in given.items()]
    shares, rejected = load(folder, "\n".join(["question,country,answer,share", *rows]), items=CORE, name="distributions.csv")
    assert shares.query("culture == 'us'")["share"].tolist() == pytest.approx([0.5, 0.25, 0.125, 0.125])
    assert rejected.set_index("question").loc["(file)", "reason"].startswith("4 rows of codes below 0 (no answer) left out")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["Q2,USA,1.9,0.5"], r"line 2, column 'answer': expected a whole number from -9 to 99, found '1\.9'"),
        # The reason of what is there, not that of the items that are not.
        (["Q2,USA,1,0", "Q2,CHN,1,0"], r"none of our 60 items is usable in all of USA, CHN \(of Q2: shares of USA sum to 0\.00\)"),
    ],
)  # fmt: skip
def test_shares_that_cannot_be_used_stop_with_the_cause(folder, rows, message):
    with pytest.raises(DataError, match=message):
        load(folder, "\n".join(["question,country,answer,share", *rows]), items=CORE, name="distributions.csv")


def test_research_shares_are_sorted_out_by_rule_and_have_intervals_and_halves(real_data):
    cfg = config.load("cpu_real", data_dir=real_data)
    human = load_human(cfg, ALL)
    shares, rejected = human.shares, set(human.rejected["question"])
    # Eight of them lost a little to rounding or missing answers, which the file's own line says.
    assert shares["question"].nunique() == 44 and len(rejected - {"(file)"}) == 233 - 44 and human.respondents is None
    assert human.rejected.query("question == '(file)'")["reason"].str.startswith("8 items").any()
    damaged = {"Q158", "Q160", "Q163", "Q164", "Q171", "Q169", "Q45", "Q182", "Q195", "Q180"}
    assert not damaged & set(shares["question"]) and damaged & set(ALL["question"]) <= rejected
    assert shares.groupby(["question", "culture"])["share"].sum().round(9).eq(1).all()
    table = describe_people(cfg, human)
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
    halves = draw_halves(cfg, human)
    references = survey_distances.add_references(make_answers("none", "zero_shot", {"Q1": [1.0]})[:0], shares, halves)
    distances = survey_distances.measure_distances(references, shares, halves)
    distances = distances[(distances["stage"] == "human") | (distances["adapter"] == distances["to"])]
    distances = distances.groupby("stage")["wasserstein"].mean()
    assert distances["human_half"] < 0.1 * distances["human"]


# GlobalOpinionQA, matched by the official wording.

OPINION_ITEMS = ALL.query("question in ['Q2', 'Q254', 'Q57', 'Q4']")
WORDING = (
    "question,language,text,options,origin\nQ2,en,How important are friends?,1. Very | 2. Rather | 3. Not very | 4. Not at all,official\n"
    "Q254,en,How proud?,1. Very | 2. Quite | 3. Little | 4. Not at all | 5. I am no national,official\n"
    "Q57,en,Can people be trusted?,1. Most can | 2. Be careful,official\nQ4,en,Politics?,1. Very | 2. Rather | 3. Not very | 4. Not at all,official\n"
)


def pick(**shares):
    return f"defaultdict(<class 'list'>, {shares or ''})".replace("United_States", "United States")


def load_opinions(folder, rows, wording=WORDING):
    text = pd.DataFrame(rows, columns=["question", "selections", "options", "source"]).to_csv(index=False)
    return load(
        folder, text, items=OPINION_ITEMS, name="global_opinions.csv", beside={"questions.csv": wording} if wording else None
    )


FOUR = "['Very', 'Rather', 'Not very', 'Not at all', \"Don't know\", 'Missing; Unknown']"
FRIENDS = pick(United_States=[0.4, 0.2, 0.1, 0.1, 0.2, 0], China=[0.1, 0.2, 0.3, 0.4, 0, 0], Chile=[1])
GOOD = ("How  important are friends", FRIENDS, FOUR, "WVS")
PROUD = "['Very','Quite','Little','Not at all'{}]"


def test_answers_are_matched_and_what_is_no_answer_left_out(folder):
    other = ("How proud?", pick(United_States=[1]), "['Very']", "GAS")  # another survey's row of the same words
    given = pick(United_States=[0.5, 0, 0, 0.25, 0.25], China=[0.25] * 4 + [0])
    proud = ("How proud?", given, PROUD.format(",'I am no national'"), "WVS")
    one = ("Can people be trusted?", pick(United_States=[1.0], China=[1.0]), "['Most can']", "WVS")
    shares, rejected = load_opinions(folder, [GOOD, other, proud, one])
    wide = shares.groupby(["question", "culture"])["share"].agg(list)
    assert wide["Q2", "us"] == pytest.approx([0.5, 0.25, 0.125, 0.125]) and wide["Q2", "cn"] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4]
    )
    assert wide["Q254", "us"] == pytest.approx([2 / 3, 0, 0, 1 / 3]) and shares["n"].isna().all()
    reasons = rejected.set_index("question")["reason"]
    assert reasons["Q57"] == "USA lacks codes [2]" and "0 rows" in reasons["Q4"] and len(reasons) == 2


@pytest.mark.parametrize(
    ("selections", "options", "said"),
    [
        (pick(United_States=[0.5, 0.5], China=[0.1] * 6), FOUR, "United States has not one share for each of 6 options"),
        (pick(United_States=[0, 0, 0, 0, 1, 0], China=[0.1] * 6), FOUR, "shares of USA sum to 0.00"),
        (pick(United_States=[40, 30, 20, 10, 0, 0], China=[0.1] * 6), FOUR, "shares of USA sum to 100.00"),
        (FRIENDS.replace("0.4, 0.2", "2j, 1e400"), FOUR, "shares of USA sum to nan"),
        (FRIENDS.replace("China", "China (Non-national sample)"), FOUR, "China has not one share"),
        (FRIENDS, FOUR.replace("Rather", "So so"), "option 'So so' is not in questions.csv"),
    ],
)  # fmt: skip
def test_damaged_rows_are_rejected_by_name(folder, selections, options, said):
    proud = ("How proud?", pick(United_States=[0.25] * 4, China=[0.25] * 4), PROUD.format(""), "WVS")
    shares, rejected = load_opinions(folder, [(GOOD[0], selections, options, "WVS"), proud])
    assert said in rejected.set_index("question")["reason"]["Q2"] and set(shares["question"]) == {"Q254"}


@pytest.mark.parametrize(
    ("selections", "options", "column"),
    [
        ("defaultdict(<class 'list'>, {'China': [", FOUR, "selections"), ("{1, 2}", FOUR, "selections"), ("{[]: 1}", FOUR, "selections"),
        (FRIENDS, "5", "options"), (FRIENDS, "(" * 5000, "options"),
    ],
)  # fmt: skip
def test_a_row_that_is_no_python_literal_is_named(folder, selections, options, column):
    with pytest.raises(DataError, match=f"row 1 below the header, column '{column}': expected a Python "):
        load_opinions(folder, [(GOOD[0], selections, options, "WVS")])


def test_files_that_cannot_be_read_say_why(folder):
    with pytest.raises(DataError, match=r"(?s)global_opinions.csv.*official English wording.*questions.csv"):
        load_opinions(folder, [GOOD], wording="")
    with pytest.raises(DataError, match=r"global_opinions.csv: .*not found: \['question'\]"):
        load(folder, "a,selections,options,source\n", items=OPINION_ITEMS, name="global_opinions.csv")


VALID = {
    NAME: write(PEOPLE).encode(), NAME + ".gz": gzip.compress(write(PEOPLE).encode()), "distributions.csv": write(AGGREGATED).encode(),
    "global_opinions.csv": pd.DataFrame([GOOD], columns=["question", "selections", "options", "source"]).to_csv(index=False).encode(),
}  # fmt: skip


@settings(QUICK, max_examples=80)
@given(
    name=st.sampled_from(sorted(VALID)),
    at=st.floats(0, 1),
    gone=st.integers(0, 40),
    new=st.binary(max_size=40) | st.text(max_size=20).map(str.encode),
)
def test_whatever_bytes_a_file_holds_it_is_read_or_refused(folder, name, at, gone, new):
    raw = VALID[name]
    place = round(at * len(raw))
    try:
        shares, _ = load(
            folder, raw[:place] + new + raw[place + gone :], items=OPINION_ITEMS, name=name, beside={"questions.csv": WORDING}
        )
    except DataError as error:
        assert name in str(error)
    else:
        assert shares.groupby(["question", "culture"])["share"].sum().to_numpy() == pytest.approx(1)


# How firm the shares are, against formulas worked out by hand.


def load_people(tmp_path, frame, items):
    for name in ("swow", "wvs"):
        (tmp_path / name).mkdir(exist_ok=True)
    frame.to_csv(tmp_path / "wvs" / NAME, index=False)
    cfg = config.load("cpu_real", data_dir=tmp_path)
    human = load_human(cfg, items)
    assert human.rejected.empty
    return cfg, human


def linearise(frame, question, unit):
    """Taylor-linearised standard error of a weighted mean over units (Cochran 1977, section 6.5), in the file's codes."""
    frame = frame[frame[question] >= 0]
    w = frame["W_WEIGHT"]
    scores = (w * (frame[question] - (w * frame[question]).sum() / w.sum()) / w.sum()).groupby(frame[unit]).sum()
    return float((len(scores) / (len(scores) - 1) * (scores**2).sum()) ** 0.5)


def test_what_comes_after_05_needs_the_files_no_more(tmp_path, monkeypatch):
    frame = make_people(ITEMS, sizes=SIZES, seed=2)
    cfg, human = load_people(tmp_path, frame, ITEMS)
    cfg = dataclasses.replace(cfg, own_runs=tmp_path / "runs")
    survey_human.store_human(cfg, ITEMS)
    with monkeypatch.context() as patch:  # what has not changed is not read again
        patch.setattr(survey_human, "load_human", None)
        survey_human.store_human(cfg, ITEMS)
    path = tmp_path / "wvs" / NAME
    (cfg.runs / "survey" / "people" / "respondents.parquet").unlink()
    with pytest.raises(MissingInput, match="respondents.parquet does not exist"):
        survey_human.read_human(cfg, ITEMS)
    survey_human.store_human(cfg, ITEMS)
    kept = path.rename(tmp_path / "aside.csv")
    again = survey_human.read_human(cfg, ITEMS)
    pd.testing.assert_frame_equal(again.shares, human.shares)
    pd.testing.assert_frame_equal(describe_people(cfg, again), describe_people(cfg, human))
    pd.testing.assert_frame_equal(draw_halves(cfg, again), draw_halves(cfg, human))
    with pytest.raises(MissingInput, match="to other items, answered: run notebook 05_wvs_survey again"):
        survey_human.read_human(cfg, ITEMS.head(1))
    # Another file in its place is seen, and nothing of the first is left.
    kept.unlink()
    rows = [(row.question, row.culture, row.code, row.share) for row in human.shares.itertuples()]
    country = {"us": "USA", "cn": "CHN"}
    shares = pd.DataFrame(rows, columns=["question", "country", "answer", "share"])
    shares.assign(country=shares["country"].map(country)).to_csv(path.with_name("distributions.csv"), index=False)
    survey_human.store_human(cfg, ITEMS)
    assert survey_human.read_human(cfg, ITEMS).respondents is None


@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_are_as_wide_as_linearised_errors_over_what_is_drawn(tmp_path, clustered):
    people = make_people(ITEMS, sizes=SIZES, seed=2)
    people["I_PSU"] = np.arange(len(people)) // 15 if clustered else -4
    if clustered:  # neighbours answer alike
        people["Q2"] = people.groupby("I_PSU")["Q2"].transform("first").where(people.index % 3 > 0, people["Q2"])
        people.loc[people["Q2"] < 0, "Q2"] = 1
    cfg, human = load_people(tmp_path, people, ITEMS)
    table = describe_people(cfg, human).set_index(["question", "culture"])
    for culture, country in (("us", "USA"), ("cn", "CHN")):
        part = people[people["B_COUNTRY_ALPHA"] == country]
        row = table.loc["Q2", culture]
        valid = part[part["Q2"] >= 0]
        assert row["value"] == pytest.approx((np.average(valid["Q2"], weights=valid["W_WEIGHT"]) - 1) / 3)
        assert row["n"] == len(valid) and row["n_effective"] == pytest.approx(
            valid["W_WEIGHT"].sum() ** 2 / (valid["W_WEIGHT"] ** 2).sum()
        )
        expected = linearise(part, "Q2", "I_PSU" if clustered else "D_INTERVIEW") / 3
        assert (row["high"] - row["low"]) / (2 * 1.96) == pytest.approx(expected, rel=0.09)
        assert row["low"] < row["value"] < row["high"]
        alone = linearise(part, "Q2", "D_INTERVIEW") / 3
        assert (expected > 1.5 * alone) == clustered, "the clusters matter, or the test says nothing"
        assert ("I_PSU" in row["interval"]) == clustered


def test_shares_alone_are_drawn_at_their_n(tmp_path):
    cfg, human = load_people(tmp_path, make_people(ITEMS, sizes=SIZES, seed=2).assign(W_WEIGHT=1), ITEMS)
    row = describe_people(cfg, Human(human.shares)).set_index(["question", "culture"]).loc["Q2", "us"]
    part = human.shares[(human.shares["question"] == "Q2") & (human.shares["culture"] == "us")]
    x = np.linspace(0, 1, 4)
    spread = (part["share"] @ x**2 - (part["share"] @ x) ** 2) ** 0.5 / part["n"].iloc[0] ** 0.5
    assert (row["high"] - row["low"]) / (2 * 1.96) == pytest.approx(spread, rel=0.09)
    assert row["interval"] == "multinomial draws at the file's n"
    unsized = Human(human.shares.assign(n=np.nan))
    row = describe_people(cfg, unsized).iloc[0]
    assert row["n"] == cfg.cultures[row["culture"]].survey_n and "as if n" in row["interval"]


def test_halves_lie_as_far_apart_as_the_formula_says(tmp_path):
    """Two options: the distance is |p1 - p2|, near normal, of mean 0 and variance 4 p (1 - p) / n: its mean is that of a half-normal."""
    people = make_people(TWO, sizes=SIZES, seed=4, missing=0).assign(W_WEIGHT=1)
    cfg, human = load_people(tmp_path, people, TWO)
    for source in (human, Human(human.shares)):
        first, second = draw_shares(cfg, source, draws=2000, halves=True)
        for culture, part in human.shares.groupby("culture"):
            p, n = part["share"].iloc[0], part["n"].iloc[0]
            apart = np.abs(first["Q57", culture] - second["Q57", culture])[:, 0].mean()
            assert apart == pytest.approx((2 / np.pi) ** 0.5 * 2 * (p * (1 - p) / n) ** 0.5, rel=0.06)
        halves = draw_halves(cfg, source)
        assert halves.groupby(["culture", "half"])["share"].sum().to_numpy() == pytest.approx(1)


def want(cfg, number):
    settings = cfg.profile.survey.model_copy(update={"high_tension": number})
    return config.Config(cfg.profile.model_copy(update={"survey": settings}), cfg.root, cfg.data_dir)


def test_the_choice_is_stable_where_it_is_clear_and_keeps_the_weights(tmp_path):
    items = ALL[ALL["codes"].map(len) == 2].head(9)
    people = make_people(items, sizes=SIZES, seed=1, missing=0)
    is_us, rng = people["B_COUNTRY_ALPHA"] == "USA", np.random.default_rng(0)
    for number, question in enumerate(items["question"]):
        far = 0.8 if number < 2 else 0.5
        people[question] = 2 - (rng.random(len(people)) < np.where(is_us, 0.2, far))
    cfg, human = load_people(tmp_path, people, items)
    fifty = draw_choice(cfg, human, ("us", "cn"))
    assert (fifty.sum(axis=1) == 4).all(), "half of nine"
    said = describe_choice(cfg, fifty, human, ("us", "cn"))
    assert "4 of 9 items" in said and said.endswith(" Fifty need the official cross-national file.")
    cfg = want(cfg, 3)
    chosen = draw_choice(cfg, human, ("us", "cn"))
    assert (chosen.sum(axis=1) == 3).all()
    assert set(chosen.columns[:2]) == set(items["question"][:2]) and chosen.iloc[:, :2].all(axis=None)
    assert 0.2 < chosen.iloc[:, 2].mean() < 1, "a choice among equals is not stable"
    assert chosen.mean().sum() == pytest.approx(3)
    said = describe_choice(cfg, chosen, human, ("us", "cn"))
    assert "3 of 9 items" in said and "bootstrap over respondents, weighted" in said and "Fifty" not in said
    # One heavy respondent a country is the whole country, draw or not: the choice moves about much more.
    heavy = people.assign(W_WEIGHT=np.where(people.groupby("B_COUNTRY_ALPHA").cumcount() < 3, 5000.0, 1.0))
    cfg, human = load_people(tmp_path, heavy, items)
    assert draw_choice(want(cfg, 3), human, ("us", "cn")).iloc[:, :3].mean(axis=None) < chosen.iloc[:, :3].mean(axis=None)


def test_equally_weighted_respondents_and_their_shares_give_the_same_stability(tmp_path, monkeypatch):
    monkeypatch.setattr(survey_human, "CHOICES", 1500)
    items = ALL[ALL["codes"].map(len) == 4].head(12)
    cfg, human = load_people(
        tmp_path, make_people(items, sizes={"USA": 300, "CHN": 300}, seed=8, missing=0).assign(W_WEIGHT=1), items
    )
    rates = [draw_choice(cfg, source, ("us", "cn")).mean() for source in (human, Human(human.shares))]
    assert np.abs(rates[0] - rates[1].reindex(rates[0].index)).max() < 0.06
