"""Cleaning steps: hand-worked boundaries of every filter, and the English pipeline against a loop in plain Python."""

import pandas as pd
import pytest
import yaml
from conftest import copy_project
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from align_utils import config
from align_utils.config.settings import UNKNOWN, CleaningStep
from align_utils.norms import cleaning
from align_utils.store.textfiles import DataError

COLUMNS = ["participant", "cue", "R1", "R2", "R3", "native"]


def make_step(**content):
    return TypeAdapter(CleaningStep).validate_python(content)


def frame(*rows):
    return pd.DataFrame(rows, columns=COLUMNS).astype(str)


def run(steps, rows, lists=None, marks=()):
    clean, report = cleaning.clean_trials(frame(*rows), steps, lists or {}, marks)
    return clean, dict(zip(report["what"], report["count"], strict=True))


def form(cfg, name):
    return next(entry for entry in cfg.formats if entry.name == name)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("a", "b", "c"), ("a", "b", "c")),
        (("a", "a", "b"), ("a", "b", "")),
        (("a", "b", "b"), ("a", "b", "")),
        (("a", "b", "a"), ("a", "b", "a")),  # R1 = R3 is not tested
        (("a", "a", "a"), ("a", "a", "")),  # R2 goes first, so R3 moves into its place, as published
        (("a", "", "b"), ("a", "b", "")),
        (("", "", "b"), ("", "b", "")),
        ((UNKNOWN, UNKNOWN, UNKNOWN), ("", "", "")),
    ],
)
def test_missing_responses_shift(given, expected):
    clean, _ = run([make_step(step="recode_doubles")], [("1", "dog", *given, "")])
    assert tuple(clean.loc[0, ["R1", "R2", "R3"]]) == expected


def make_person(name, cues, *given):
    """Trials of one participant, three responses each."""
    return [(name, f"cue{n}", *given[3 * n : 3 * n + 3], "United States") for n in range(cues)]


def words(prefix, count):
    return [f"{prefix}{n}" for n in range(count)]


@pytest.mark.parametrize(
    ("status", "given", "removed"),
    [
        ("X", [*words("w", 6), *[""] * 6, *[UNKNOWN] * 3], 0),  # 9 of 15 = 0.60
        ("X", [*words("w", 5), *[""] * 7, *[UNKNOWN] * 3], 1),
        ("X", [""] * 15, 1),
        ("Non-native", [*words("w", 9), *words("foreign", 6)], 0),  # 9 of 15 = 0.60
        ("Non-native", [*words("w", 8), *words("foreign", 7)], 1),
        ("Perseveration", [*words("w", 12), *["w0"] * 3], 0),  # 3 of 15 = 0.20
        ("Perseveration", [*words("w", 11), *["w0"] * 4], 1),
        ("Perseveration", [*words("w", 8), *["w0"] * 2, *[""] * 5], 0),  # 2 of 10
        ("Perseveration", [*words("w", 8), *["w0"] * 2, *[""] * 4, UNKNOWN], 1),  # both markers: counted as 3 of 10
        ("Verbose", [*words("w", 7), "w8 w9", "w9,w8", "w1;w2", *[""] * 5], 0),  # 3 of 10 = 0.30
        ("Verbose", [*words("w", 6), "w8 w9", "w9,w8", "w1;w2", "w 4", *[""] * 5], 1),
    ],
)
def test_english_participant_filters_at_their_boundaries(cfg, status, given, removed):
    steps = [step for step in form(cfg, "swow-en-complete").steps if step.step == "filter_participants"]
    lexicon = [(word,) for word in [*words("w", 20), "w8 w9", "w9,w8", "w1;w2", "w 4"]]
    clean, counts = run(steps, make_person("1", 5, *given), {"wordlist.txt": lexicon})
    assert counts[f"participants removed as {status}"] == removed and clean.empty == bool(removed)
    assert sum(count for what, count in counts.items() if what.startswith("participants")) == removed


@pytest.mark.parametrize(
    ("status", "given", "native", "removed"),
    [
        ("Nonword", [*words("w", 9), *words("x", 6)], "PUTON", 0),  # 9 of 15
        ("Nonword", [*words("w", 8), *words("x", 7)], "PUTON", 1),
        ("Nonword", [*words("w", 8), "w0", *words("x", 6)], "PUTON", 1),  # distinct words count: 8 of 15
        ("Long", [*words("w", 9), *["#Long"] * 3], "PUTON", 0),  # 3 of 12
        ("Long", [*words("w", 8), *["#Long"] * 4], "PUTON", 1),  # 4 of 12 > 0.30
        ("Symbol", [*words("w", 9), *["#Symbol"] * 6], "PUTON", 0),  # 6 of 15 = 0.40
        ("Symbol", [*words("w", 8), *["#Symbol"] * 7], "PUTON", 1),
        ("English", [*words("w", 9), *words("e", 6)], "PUTON", 0),  # 6 of 15 = 0.40
        ("English", [*words("w", 8), *words("e", 7)], "PUTON", 1),
        ("Repeat", [*words("w", 12), "w0", "w1", "#Repeat"], "PUTON", 0),  # 3 of 15 = 0.20
        ("Repeat", [*words("w", 11), "w0", "w1", "#Repeat", "#Repeat"], "PUTON", 1),
        ("Empty", [*words("w", 6), *[""] * 9], "PUTON", 0),  # 9 of 15 = 0.60
        ("Empty", [*words("w", 5), *[""] * 10], "PUTON", 1),
        ("Cantonese", words("w", 15), "SOUTH", 1),
        ("Cantonese", words("w", 15), "SOUTHE", 0),
    ],
)
def test_chinese_participant_filters_at_their_boundaries(cfg, status, given, native, removed):
    chinese = form(cfg, "swow-zh-raw")
    steps = [step for step in chinese.steps if step.step == "filter_participants"]
    lists = {"SWOWZHwordlist.csv": [(word,) for word in [*words("w", 20), *words("e", 9)]], "englishRes.csv": [(w,) for w in words("e", 9)]}  # fmt: skip
    rows = [(*row[:5], native) for row in make_person("1", len(given) // 3, *given)]
    clean, counts = run(steps, rows, lists, chinese.marks)
    assert counts[f"participants removed as {status}"] == removed and clean.empty == bool(removed)


def test_chinese_responses_are_cleaned_by_the_lists_in_order(cfg):
    chinese = form(cfg, "swow-zh-raw")
    lists = {
        "symbolRes.csv": [("!", "#Symbol"), ("'a", "a")], "unsplitedRes.csv": [("b c d e", "b,c,d,e"), ("f,", "f,")],
        "longRes.csv": [("longlonglong", "#Long"), ("keptkeptkept", "keptkeptkept")], "tradCues.csv": [("體", "体")],
        "tradRes.csv": [("貓", "猫")], "erRes.csv": [("花儿", "花")],
    }  # fmt: skip
    rows = [
        ("1", "體", "'a", "!", "貓", "PUTON"), ("1", "y", "z", "b c d e", "q", "PUTON"), ("1", "x", "花儿", "花", "花儿", "PUTON"),
        ("1", "w", "f,", "longlonglong", "keptkeptkept", "PUTON"),
    ]  # fmt: skip
    steps = [step for step in chinese.steps if step.step not in {"filter_participants", "select_best"}]
    clean, report = cleaning.clean_trials(frame(*rows), steps, lists, chinese.marks)
    assert clean[["cue", "R1", "R2", "R3"]].values.tolist() == [
        ["体", "a", "", "猫"], ["y", "z", "b", "c"], ["x", "花", "", ""], ["w", "f", "", "keptkeptkept"],
    ]  # fmt: skip
    assert report.loc[report["what"].str.contains("skipped"), "what"].tolist() == [
        "step skipped: englishRes.csv is not beside the participant file"
    ]


def test_without_its_list_a_step_is_skipped_and_said(cfg):
    for name, number in (("swow-en-complete", 3), ("swow-zh-raw", 8)):
        entry = form(cfg, name)
        rows = [(str(n), "dog", f"w{n}", "six plus one!", "b", "PUTON") for n in range(1, 60)]
        clean, report = cleaning.clean_trials(frame(*rows), entry.steps, {}, entry.marks)
        said = report[report["what"].str.contains("not beside the participant file")]
        skipped = said[said["what"].str.contains("skipped")]
        assert len(skipped) == number and (skipped["count"] == 1).all()
    long = said[~said["what"].str.contains("skipped")]
    assert long["count"].tolist() == [59] and (clean["R2"] == "").all(), "without longRes.csv: more than 6 characters"


def test_spelling_spares_names_and_corrected_words_and_the_first_entry_holds():
    step = make_step(
        step="replace_words", columns=["R1", "R2", "R3"], settled=True,
        words={"file": "dict.txt", "header": False}, spare={"file": "names.txt", "header": False},
    )  # fmt: skip
    lists = {"dict.txt": [("recieve", "receive"), ("recieve", "relieve"), ("Alto", "alto"), ("alto", "Alto"), ("Jack", "jack")], "names.txt": [("Jack",)]}  # fmt: skip
    rows = [("1", "recieve", "recieve", "Alto", "Jack", ""), ("1", "dog", "alto", "", UNKNOWN, "")]
    clean, counts = run([step], rows, lists)
    assert clean[["cue", "R1", "R2", "R3"]].values.tolist() == [["recieve", "receive", "Alto", "Jack"], ["dog", "alto", "", ""]]
    assert counts == {"replaced by dict.txt": 1}
    again, _ = run([step], [(*row, "") for row in clean.values.tolist()], lists)
    pd.testing.assert_frame_equal(again, clean)


def select(rows, **options):
    given = {"per_cue": 2, "native": {"United States": 3, "Ireland": 1}, "newest": True, "ties": "keep", **options}
    clean, counts = run([make_step(step="select_best", **given)], rows)
    return clean["participant"].tolist(), counts


def test_the_best_trials_of_a_cue_are_native_first_then_newest_and_ties_stay():
    rows = [
        ("1", "dog", "a", "", "", "United States"),
        ("2", "dog", "b", "", "", "Ireland"),
        ("3", "dog", "c", "", "", "Dutch"),
    ]
    assert select(rows)[0] == ["1", "2"]
    assert select([*rows, ("4", "dog", "d", "", "", "Ireland")])[0] == ["1", "4"]
    # 9 > 10 as text, not as numbers
    assert select([(n, "dog", "a", "", "", "Ireland") for n in ("9", "10", "8")])[0] == ["9", "10"]
    # one person twice at the limit: both stay; a smaller cue stays whole
    kept, counts = select([*rows, rows[1], ("9", "cat", "x", "", "", "Dutch")])
    assert kept == ["1", "2", "2", "9"]
    assert counts == {"trials beyond the best 2 of their cue": 1, "cues with fewer than 2, kept": 1}


def test_chinese_trials_are_chosen_by_answers_then_mandarin_then_order_and_small_cues_go(cfg):
    (step,) = [step for step in form(cfg, "swow-zh-raw").steps if step.step == "select_best"]
    assert step.per_cue == 55
    rows = [
        ("1", "狗", "a", "", "", "PUTON"), ("2", "狗", "a", "b", "", "WU"), ("3", "狗", "a", "#Long", UNKNOWN, "PUTON"),
        ("4", "狗", "a", "", "", "PUTON"), ("5", "猫", "a", "b", "c", "PUTON"),
    ]  # fmt: skip
    for size, kept in ((1, ["2", "5"]), (2, ["1", "2"]), (3, ["1", "2", "3"]), (4, ["1", "2", "3", "4"]), (5, [])):
        clean, counts = run([step.model_copy(update={"per_cue": size})], rows, marks=["#Long"])
        assert clean["participant"].tolist() == kept, size
    assert counts["cues with fewer than 5, left out"] == 2


def test_doubles_are_left_out_by_the_list():
    step = make_step(step="drop_cues", words={"file": "doubles.txt", "header": False})
    rows = [("1", "colour", "a", "", "", ""), ("2", "color", "a", "", "", ""), ("3", "colour", "b", "", "", "")]
    clean, counts = run([step], rows, {"doubles.txt": [("colour",), ("tyre",)]})
    assert clean["cue"].tolist() == ["color"] and counts == {"cues of doubles.txt left out": 1, "their trials": 2}


def test_lists_are_read_as_published_and_a_bad_line_is_named(tmp_path, cfg):
    (tmp_path / "EnglishCustomDict.txt").write_text(";-)\t;-)\nsay \"hi\tsay 'hi'\nrecieve\treceive\n", encoding="utf-8")
    (tmp_path / "EnglishProperNames.txt").write_text('3D\nBig, Bad "Wolf\n', encoding="utf-8")
    (tmp_path / "cueCorrections.txt").write_text("original\tcorrection\nafrica\tAfrica\n", encoding="utf-8")
    (tmp_path / "wordlist.txt").write_text('"Word"\n"a"\n"NA"\n', encoding="utf-8")
    lists = cleaning.load_lists(form(cfg, "swow-en-complete").steps, tmp_path)
    assert lists == {
        "EnglishCustomDict.txt": [(";-)", ";-)"), ('say "hi', "say 'hi'"), ("recieve", "receive")],
        "EnglishProperNames.txt": [("3D",), ('Big, Bad "Wolf',)], "cueCorrections.txt": [("africa", "Africa")],
        "wordlist.txt": [("a",), ("NA",)],
    }  # fmt: skip
    (tmp_path / "unsplitedRes.csv").write_text('unsplitedRes1,unsplitedRes2\na b,"a,b"\nx,y,z\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"unsplitedRes\.csv, line 3: expected 2 fields"):
        cleaning.load_lists(form(cfg, "swow-zh-raw").steps, tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": [{"step": "wash"}]}, ["steps.0", "wash"]),
        ({"steps": [{"step": "filter_participants", "rules": [{"status": "x", "share": "empty"}]}]}, ["above or below"]),
        ({"steps": [{"step": "filter_participants", "rules": [{"status": "x", "share": "listed", "above": 0.5}]}]}, ["words"]),
        (
            {"steps": [{"step": "filter_participants", "rules": [{"status": "x", "share": "empty", "above": 60}]}]},
            ["above", "60"],
        ),
        ({"numeric_participant": False}, ["newest"]),
        ({"seperator": ";"}, ["seperator"]),
    ],
)
def test_a_mistake_in_a_format_names_file_and_field(tmp_path, change, words):
    root = copy_project(tmp_path)
    path = root / "notebooks" / "settings" / "formats" / "swow-en-complete.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    with pytest.raises(config.ConfigError) as error:
        config.load("smoke", root=root)
    assert all(word in str(error.value) for word in ["swow-en-complete.yaml", *words]), error.value


VOCABULARY = ["a", "b", "c", "d", "e f", "", UNKNOWN, "zz", "g"]
LEXICON = {"a", "b", "c", "d", "e f", "g"}
trial = st.tuples(st.integers(1, 6), st.sampled_from(["dog", "cat"]), *[st.sampled_from(VOCABULARY)] * 3)
VARIETY = {1: "United States", 2: "Ireland", 3: "Canada", 4: "United States", 5: "Dutch", 6: "Australia"}


def clean_plainly(rows, best):
    """The published script, read line by line: preprocessData.R."""
    done = []
    for person, cue, first, second, third in rows:
        if first == second and first not in ("", UNKNOWN):
            second = ""
        if second == third and second not in ("", UNKNOWN):
            third = ""
        if second == "" and third != "":
            second, third = third, ""
        done.append((person, cue, first, second, third))
    valid = set()
    for person in {row[0] for row in done}:
        given = [word for row in done if row[0] == person for word in row[2:]]
        real = [word for word in given if word not in ("", UNKNOWN)]
        missing, unknown = given.count(""), given.count(UNKNOWN)
        distinct = len(set(real)) + (missing + unknown > 0) - (missing > 0) - (unknown > 0)
        if (missing + unknown) / len(given) > 0.6 or sum(word in LEXICON for word in real) / len(real) < 0.6:
            continue
        if 1 - distinct / len(real) > 0.2 + 1e-12 or sum(len(word.split()) > 1 for word in real) / len(real) > 0.3:
            continue
        valid.add(person)
    done = [row for row in done if row[0] in valid]
    points = {"United States": 3, "Canada": 2, "Australia": 2, "Ireland": 1}
    top = max(valid, default=1)
    kept = []
    for row in done:
        key = points.get(VARIETY[row[0]], 0) + row[0] / top
        above = sum(points.get(VARIETY[other[0]], 0) + other[0] / top > key for other in done if other[1] == row[1])
        if above < best:
            kept.append((str(row[0]), row[1], *("" if word == UNKNOWN else word for word in row[2:])))
    return kept


@settings(max_examples=100, deadline=None)
@given(st.lists(trial, min_size=1, max_size=14), st.integers(1, 3))
def test_the_english_pipeline_is_the_published_script(cfg, rows, best):
    steps = form(cfg, "swow-en-complete").steps
    steps = [step.model_copy(update={"per_cue": best}) if step.step == "select_best" else step for step in steps]
    given_rows = [(str(row[0]), *row[1:], VARIETY[row[0]]) for row in rows]
    clean, report = cleaning.clean_trials(frame(*given_rows), steps, {"wordlist.txt": [(word,) for word in LEXICON]})
    assert [tuple(row) for row in clean.values.tolist()] == clean_plainly(rows, best)
    removed = report.loc[
        report["what"].isin(["trials of removed participants", f"trials beyond the best {best} of their cue"]), "count"
    ]
    assert len(rows) - removed.sum() == len(clean)
