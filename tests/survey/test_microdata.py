"""Respondents' files and their mutations: the same shares, a clear error, or a counted repair; never a silent change."""

import functools
import gzip

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from surveys import make_people

from align_utils import config
from align_utils.store.textfiles import DataError
from align_utils.survey import items as survey_items
from align_utils.survey.human import Respondents, count_answers, load_human

NAME = "WVS_Cross-National_Wave_7_csv_v6_0.csv"
ALL = survey_items.load_items(ROOT / "data" / "survey", choice="all")
# A plain scale, one with a code to drop (Q254: 5) and one with a code to merge (Q247: 0 is 1).
ITEMS = ALL[ALL["question"].isin(["Q2", "Q254", "Q247"])].reset_index(drop=True)
# A file is written at each example: no shrinking, which would take minutes to say what the example says already.
QUICK = settings(deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
PEOPLE = make_people(ITEMS, sizes={"USA": 40, "CHN": 50, "TWN": 10}, seed=5).assign(N_TOWN="x")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    (path / "swow").mkdir()
    (path / "wvs").mkdir()
    return path


def load(folder, content, *, items=ITEMS, name=NAME):
    for old in (folder / "wvs").iterdir():
        old.unlink()
    path = folder / "wvs" / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    human = load_human(configure(folder), items)
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
    "columns in another order": lambda frame: write(frame[frame.columns[::-1]]),
    "rows in another order": lambda frame: write(frame.sample(frac=1, random_state=1)),
    "Latin-1 where nobody reads": lambda frame: write(frame.assign(N_TOWN="Málaga")).encode("latin-1"),
    "names in small letters": lambda frame: write(frame.rename(columns=str.lower)),
    "decimals behind codes": lambda frame: write(frame.astype({"Q2": float})),
    "no interview number": lambda frame: write(frame.drop(columns="D_INTERVIEW")),
}
FATAL = {  # the change at a row, and what the error says besides the file
    "other separator": (lambda frame, row: write(frame, "|"), "line 1: one column"),
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
    "joint file": (lambda frame, row: "cntry_AN,gwght,F120\nUS,1,3\n", "joint EVS/WVS or trend"),
    "inverted scales": (lambda frame, row: write(frame.rename(columns=lambda c: c + "P" if c[0] == "Q" else c)), "inverted"),
    "another wave": (lambda frame, row: write(frame.rename(columns=lambda c: c.replace("Q", "V"))), "no file of wave 7"),
    "nothing": (lambda frame, row: "", "line 1"),
    "only a header": (lambda frame, row: write(frame[:0]), "no respondent below it"),
}  # fmt: skip


@settings(QUICK, max_examples=30)
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


@settings(QUICK, max_examples=25)
@given(rows=st.sets(st.integers(0, 39), min_size=1, max_size=20), gone=st.sampled_from(["", "nan", "NA", "0"]))
def test_respondents_without_a_weight_are_left_out_and_counted(folder, rows, gone):
    frame = PEOPLE.copy().astype({"W_WEIGHT": object})
    frame.loc[sorted(rows), "W_WEIGHT"] = gone
    shares, rejected = load(folder, write(frame))
    agree(shares, PEOPLE.drop(index=sorted(rows)))
    assert rejected.values.tolist() == [["(file)", f"{NAME}: {len(rows)} respondents of USA without a weight left out"]]


@settings(QUICK, max_examples=25)
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
    with pytest.raises(DataError, match="joint EVS/WVS, trend or other wave"):
        load(folder, text, name="EVS_WVS_Joint_Csv_v5_0.csv")


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
    with pytest.raises(DataError, match="United_States.*every country"):
        load_human(cfg, ITEMS)
    # Without a country's column its name is the file's.
    (folder / "wvs" / cn).write_text(";W_WEIGHT Weight;Q2 Friends;Q254 Pride\n1;1;Rather;Quite\n2;3;Not very;Perhaps\n")
    with pytest.raises(DataError, match=r"(?s)'Q2 Important in life: Friends'.*no option in questions.csv.*official wording"):
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
    "semicolon": (lambda f, r: write(f, ";"), "line 1: columns question"),
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


@settings(QUICK, max_examples=40)
@given(name=st.sampled_from(sorted(SHARES)), row=st.integers(0, 15))
def test_damaged_shares_stop_with_file_line_and_column(folder, name, row):
    spoil, said = SHARES[name]
    with pytest.raises(DataError, match=rf"(?s)distributions.csv.*{said.format(line=row + 2)}"):
        load(folder, spoil(AGGREGATED, row), name="distributions.csv")


@settings(QUICK, max_examples=40)
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


def test_the_weights_move_shares_as_a_weighted_mean_says():
    people = PEOPLE[(PEOPLE["B_COUNTRY_ALPHA"] == "USA") & (PEOPLE["Q2"] >= 0)]
    respondents = Respondents(
        people.rename(columns={"B_COUNTRY_ALPHA": "country", "W_WEIGHT": "weight"}).astype({"Q2": float}), {}, [], {}
    )
    shares = count_answers(respondents, ITEMS[ITEMS["question"] == "Q2"])
    for row in shares.itertuples():
        oracle = np.average(people["Q2"] == row.answer, weights=people["W_WEIGHT"])
        assert row.share == pytest.approx(oracle, abs=1e-12)
