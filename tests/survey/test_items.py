"""The items: the survey's own numbers, codes and orders against a list made from its codebook, clean wording, and the reader's own."""

import csv
import re
import unicodedata
from collections import Counter

import pandas as pd
import pytest
import yaml
from conftest import ROOT, copy_project

from align_utils import config
from align_utils.models import prompts
from align_utils.store.textfiles import DataError
from align_utils.survey import items as survey_items
from align_utils.survey.human import load_human

FOLDER = ROOT / "data" / "survey"
# Codes of the ordered items after the order repairs, by question (WVS-7 codebook; WorldValuesBench, question_metadata.json).
RANGES = {
    (1, 2): "7-26, 57, 139-141, 144, 145, 151, 165-168",
    (1, 3): "43-45, 56, 200, 209-222",
    (0, 2): "94-104, 122-129",
    (1, 4): "1-6, 27-32, 46, 51-55, 58-81, 113-118, 130-138, 142, 143, 146-148, 169, 170, 196-199, 224-239, 253-259",
    (1, 5): "33-41, 47, 119, 121, 201-208, 234A",
    (1, 7): "171",
    (1, 8): "172",
    (1, 10): "48-50, 106-110, 112, 120, 158-164, 176-195, 240-252",
}
# Order repairs as that benchmark's answer_adjustment.json states them: survey code to place on the scale, None where dropped.
REPAIRS = {
    "Q56": {2: 3, 3: 2},
    "Q119": {0: 3, 3: 4, 4: 5},
    "Q221": {4: None},
    "Q222": {4: None},
    "Q254": {5: None},
    **{f"Q{number}": {0: 1} for number in range(241, 250)},
}
HIGH_FIRST = "1-6, 27-41, 58-81"
LOW_FIRST = "48, 49, 164, 250"


def expand(ranges):
    for part in ranges.split(", "):
        first, _, last = part.partition("-")
        yield from [f"Q{n}" for n in range(int(first), int(last) + 1)] if last else [f"Q{part}"]


@pytest.fixture(scope="module")
def items():
    return survey_items.load_items(FOLDER, choice="all", nominal=True).set_index("question", drop=False)


def test_exactly_the_ordered_value_items_and_two_nominal_ones(items):
    expected = [question for ranges in RANGES.values() for question in expand(ranges)]
    assert Counter(items.index[items["kind"] == "ordered"]) == Counter(expected) and len(expected) == 233
    assert set(items.index[items["kind"] == "nominal"]) == {"Q154", "Q155"} and items["core"].sum() == 60


@pytest.mark.parametrize("limits", RANGES, ids=str)
def test_each_survey_code_has_its_place_on_the_scale(items, limits):
    low, high = limits
    for question in expand(RANGES[limits]):
        item, repairs = items.loc[question], REPAIRS.get(question, {})
        places = {code: place for place, code in enumerate(item["codes"], start=low)}
        places |= {code: places[target] for code, target in item["recode"].items()} | dict.fromkeys(item["drop"])
        identity = {code: code for code in places}
        assert places == identity | repairs, question
        assert sorted({p for p in places.values() if p is not None}) == list(range(low, high + 1)), question


def test_direction_is_stated_as_the_codebook_has_it(items):
    assert set(items.loc[list(expand(HIGH_FIRST)), "direction"]) == {"high_to_low"}
    assert set(items.loc[list(expand(LOW_FIRST)), "direction"]) == {"low_to_high"}
    assert items.loc["Q158", "direction"] != items.loc["Q176", "direction"]


def test_inner_points_are_numerals_on_ten_points_alone(items):
    for row in items.itertuples():
        for labels in (row.labels_en, row.labels_zh):
            inner = [str(code) for code in row.codes[1:-1]] if len(row.codes) == 10 else []
            assert [label for label in labels if label.isdigit()] == inner, row.question


@pytest.mark.parametrize("part", ["text", "labels"])
def test_each_language_is_written_in_its_own_script(items, part):
    for row in items.to_dict("records"):
        en, zh = ("".join(row[f"{part}_{language}"]) for language in ("en", "zh"))
        assert not re.search(r"[^\x20-\x7e]", en), row["question"]
        assert not re.search(r"[A-Za-z,;:?!()]", zh), row["question"]
        assert {unicodedata.name(c).split()[0] for c in zh if c.isalpha()} == {"CJK"}, row["question"]


def test_sentences_end_as_questions_and_tie_no_end_of_ten_points_to_a_numeral(items):
    ten = items[items["codes"].map(len) == 10]
    assert items["text_en"].str.endswith(("?", ".")).all() and items["text_zh"].str.endswith(("？", "。")).all()
    assert len(ten) == 50
    for item in ten.to_dict("records"):
        for language in ("en", "zh"):
            # Every inner point is a numeral, the ends are words; which end is 1 the order says, so no sentence may.
            ends = [label for label in item[f"labels_{language}"] if not label.isdigit()]
            assert len(ends) == 2 and item[f"labels_{language}"][0] == ends[0] and item[f"labels_{language}"][-1] == ends[1]
            assert not re.search(
                r"\d|[一二三四五六七八九十]到[一二三四五六七八九十]|一表示|十表示|一是|十是", item[f"text_{language}"]
            ), item["question"]


def test_a_descending_ten_point_question_says_the_same_of_every_label(cfg):
    item = survey_items.load_items(FOLDER, choice="all").set_index("question").loc["Q182"]
    for name, language in cfg.languages.items():
        labels = item[f"labels_{name}"]
        up, down = (
            prompts.build_survey_prompt(language, item[f"text_{name}"], labels, order)
            for order in prompts.list_orders(10, numeric=True)
        )
        assert language.steps_hint in up and not re.search(r"\d", language.steps_hint)
        assert f"\n1. {labels[0]}\n2.\n" in up and f"\n10. {labels[-1]}\n" in up
        assert f"\n1. {labels[-1]}\n2.\n" in down and f"\n10. {labels[0]}\n" in down
        # Nothing but the ends' words changes place: no word of the sentence ties an end to a numeral.
        assert up.replace(labels[0], "@").replace(labels[-1], labels[0]).replace("@", labels[-1]) == down


def test_choices_keep_the_core_and_the_nominal_items_apart(items):
    core, everything = survey_items.load_items(FOLDER), survey_items.load_items(FOLDER, choice="all")
    assert set(core["kind"]) == set(everything["kind"]) == {"ordered"}
    assert core["core"].all() and set(core["question"]) < set(everything["question"])


def test_the_sample_has_shares_for_the_core_and_reports_the_rest(cfg):
    human = load_human(cfg, survey_items.choose_items(cfg))
    assert human.shares["question"].nunique() == 60 and human.rejected.empty
    human = load_human(cfg, survey_items.load_items(FOLDER, choice="all"))
    assert human.shares["question"].nunique() == 60 and len(human.rejected) == 173
    assert set(human.rejected["reason"]) == {"not in distributions.sample.csv"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\nQ1,", "\nQX1,", "line 2: question 'QX1' is not Q and the survey's number"),
        ("Q3,", "Q2,", r"items\.csv, line 4: Q2 stands twice in column question"),
        ("Q2,social values,ordered,yes,important4", "Q2,social values,ordered,yes,imporant4", "line 3: scale 'imporant4' is none of"),
        ("Q2,social values,ordered", "Q2,social values,orderd", "line 3: kind 'orderd' is none of ordered, nominal"),
        ("Q2,social values,ordered,yes", "Q2,social values,ordered,maybe", "line 3: core 'maybe' is none of yes, no"),
        ("How much do friends matter to you: how important are they?", "", "line 3: Q2 has an empty text_en"),
        ("How much confidence do you have in the universities", "How much confidence do you have in the banks", "stands twice in column text_en"),
    ],
)  # fmt: skip
def test_a_broken_item_names_line_and_column(tmp_path, old, new, message):
    folder = copy_project(tmp_path) / "data" / "survey"
    text = (folder / "items.csv").read_text(encoding="utf-8")
    assert old in text
    (folder / "items.csv").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        survey_items.load_items(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zh": ["没有", "没有"]}, "'did2', 'zh': one distinct label a code"),
        ({"en": ["Yes", "No", "Perhaps"]}, "'did2', 'en': one distinct label a code"),
        ({"codes": [1, 1]}, "'did2': each code once"),
        ({"drop": [2]}, "'did2': each code once"),
    ],
    ids=str,
)
def test_a_broken_scale_is_named(tmp_path, change, message):
    path = copy_project(tmp_path) / "data" / "survey" / "scales.yaml"
    scales = yaml.safe_load(path.read_text())
    scales["did2"] |= change
    path.write_text(yaml.safe_dump(scales, allow_unicode=True))
    with pytest.raises(DataError, match=message):
        survey_items.load_items(path.parent)


def fold(text):
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())


def test_no_sentence_is_that_of_the_research_copy(real_data, items):
    path = real_data / "wvs" / "questions.csv"
    if not path.is_file():
        pytest.skip("ALIGN_DATA holds no wvs/questions.csv: nothing to compare our sentences with")
    known = pd.read_csv(path, keep_default_na=False, dtype=str)
    theirs = {fold(text) for text in known["text"]}
    same = {(q, lang) for lang in ("en", "zh") for q, text in items[f"text_{lang}"].items() if fold(text) in theirs}
    assert len(theirs) > 150 and not same


# The reader's own wording: sound in every language or not at all, and every refusal has its reason.

AGREE = "1. Yes, strongly | 2. Yes | 3. No | 4. No, strongly"
ZH_AGREE = "1. 很对 | 2. 对 | 3. 不对 | 4. 很不对"
HEADER = ["question", "language", "text", "options", "origin"]


@pytest.fixture(scope="module")
def ordered():
    return survey_items.load_items(FOLDER, choice="all")


def write(folder, rows, header=HEADER):
    path = folder / "questions.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def pair(question, en="Is it so?", zh="是这样吗？", en_options=AGREE, zh_options=ZH_AGREE, origin="own"):
    return [[question, "en", en, en_options, origin], [question, "zh", zh, zh_options, origin]]


def test_sound_rows_replace_sentence_and_labels_in_scale_order(tmp_path, ordered):
    rows = pair("Q27") + pair("Q49", "So?", "满意吗？", "1. Bad | 10. Good", "1. 坏 | 10. 好")
    rows += pair("Q56", "How?", "怎样？", "1. Better | 2. Worse | 3. Same", "1. 更好 | 2. 更糟 | 3. 一样")
    rows += pair("Q254", "Proud?", "自豪吗？", AGREE + " | 5. No citizen", ZH_AGREE + " | 5. 不是公民")
    result = survey_items.read_wording(write(tmp_path, rows), ordered).set_index("question")
    assert set(result.index[result["wording"] == "file"]) == {"Q27", "Q56", "Q49", "Q254"}
    assert result.loc["Q56", "labels_en"] == ["Better", "Same", "Worse"]  # the survey's codes stand in another order
    assert result.loc["Q49", "labels_zh"] == ["坏", *map(str, range(2, 10)), "好"]
    assert len(result.loc["Q254", "labels_en"]) == 4 and result.loc["Q27", "text_zh"] == "是这样吗？"
    ours = ordered.set_index("question")
    rest = result.index[result["wording"] != "file"]
    assert (result.loc[rest, "text_en"] == ours.loc[rest, "text_en"]).all()
    assert set(result.loc[rest, "wording"]) == {"ours: en has no row"}


TEN = {"question": "Q49", "en_options": "1. Bad | 10. Good", "zh_options": "1. 坏 | 10. 好"}
TURNED = "names an end of its scale by numeral, which the descending order would turn round"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"zh": ""}, "zh has no text"),
        ({**TEN, "en": "Happy, where 1 is bad and 10 is good?"}, f"en {TURNED}"),
        ({**TEN, "zh": "十表示满意，您选几？"}, f"zh {TURNED}"),
        ({"zh": "您对[国家]怎么看？"}, "zh leaves a place open ([国家])"),
        ({"origin": "machine"}, "en is a machine's translation"),
        ({"origin": ""}, "en has an origin other than official, own, machine"),
        ({"en": "正当化できますか"}, "en is written in another script (CJK, HIRAGANA)"),
        ({"zh": "正しいと思いますか"}, "zh is written in another script (HIRAGANA)"),
        ({"zh": "Is it so?", "zh_options": AGREE}, "zh is written in another script (LATIN)"),
        ({"en": "\U00017000" * 20}, "en is written in another script (UNNAMED)"),
        ({"en_options": "1. Yes | 2. No"}, "en has options that are not the scale's codes"),
        ({"en_options": AGREE + " | 5. Perhaps"}, "en has options that are not the scale's codes"),
        ({"en_options": "1. Yes | 1. Yes, a bit | 2. Well | 3. Hm | 4. No"}, "en has options that are not the scale's codes"),
        ({"zh_options": "1. 对 | 2. 对 | 3. 不对 | 4. 很不对"}, "zh has a label twice or an empty one"),
    ],
    ids=str,
)
def test_a_damaged_row_keeps_our_item_in_both_languages(tmp_path, ordered, change, reason):
    damaged = {"question": "Q28", **change}
    path = write(tmp_path, pair("Q27") + pair(**damaged))
    result = survey_items.read_wording(path, ordered).set_index("question")
    assert result.loc[damaged["question"], "wording"] == f"ours: {reason}"
    ours = ordered.set_index("question").loc[damaged["question"]]
    assert result.loc[damaged["question"], ours.index.drop("question", errors="ignore")].equals(ours)


def test_a_row_twice_is_refused_and_an_abbreviation_is_not(tmp_path, ordered):
    rows = pair("Q27", zh="您在多大程度上信任世界卫生组织这个机构（WHO）？") + pair("Q28") + pair("Q28")[:1]
    result = survey_items.read_wording(write(tmp_path, rows), ordered).set_index("question")
    assert result.loc["Q27", "wording"] == "file" and result.loc["Q28", "wording"] == "ours: en has 2 rows"


def test_a_file_without_a_sound_item_leaves_ours_and_one_without_a_stated_origin_stops(tmp_path, ordered):
    result = survey_items.read_wording(write(tmp_path, pair("Q27", zh="")), ordered)
    assert result.drop(columns="wording").equals(ordered)
    assert (
        survey_items.describe_wording(result)
        == "Wording: 0 items in that of the file, 233 in ours (most often: en has no row, 232)."
    )
    rows = [row[:4] for row in pair("Q27")]
    with pytest.raises(DataError, match="column origin not found"):
        survey_items.read_wording(write(tmp_path, rows, HEADER[:4]), ordered)


def test_the_file_is_read_only_when_the_profile_asks(tmp_path):
    (tmp_path / "swow").mkdir()
    (tmp_path / "wvs").mkdir()
    write(tmp_path / "wvs", pair("Q27"))
    cfg = config.load("cpu_real", data_dir=tmp_path)
    assert survey_items.describe_wording(survey_items.choose_items(cfg)) == (
        "Wording: 0 items in that of the file, 233 in ours (most often: the profile asks in ours, survey.wording, and leaves "
        "wvs/questions.csv aside, 233)."
    )
    survey = cfg.profile.survey.model_copy(update={"wording": "file"})
    vars(cfg)["profile"] = cfg.profile.model_copy(update={"survey": survey})
    assert (survey_items.choose_items(cfg)["wording"] == "file").sum() == 1
    (tmp_path / "wvs" / "questions.csv").write_text("question,language\nQ27,en\n")
    with pytest.raises(DataError, match="columns text, options, origin not found"):
        survey_items.choose_items(cfg)
    (tmp_path / "wvs" / "questions.csv").unlink()
    absent = survey_items.choose_items(cfg)
    assert survey_items.describe_wording(absent).endswith(
        "0 items in that of the file, 233 in ours (most often: there is no wvs/questions.csv, 233)."
    )
    assert absent.drop(columns="wording").equals(survey_items.load_items(FOLDER, choice="all"))


def test_the_research_copy_is_refused_for_its_origin_and_its_damage(tmp_path, real_data, ordered):
    source = real_data / "wvs" / "questions.csv"
    if not source.is_file():
        pytest.skip("ALIGN_DATA holds no wvs/questions.csv")
    with pytest.raises(DataError, match="column origin not found"):
        survey_items.read_wording(source, ordered)
    with source.open(encoding="utf-8", newline="") as file:
        known = list(csv.DictReader(file))
    rows = [[row[name] for name in HEADER[:4]] + ["own"] for row in known]
    result = survey_items.read_wording(write(tmp_path, rows), ordered).set_index("question")["wording"]
    assert result["Q52"] == "ours: en has no row" and "Q42" not in result
    assert result["Q192"].startswith("ours: en") and result["Q182"].startswith("ours: en")
    assert result["Q176"] == "ours: zh has options that are not the scale's codes" and result["Q2"] == "file"
    translated = [[*row[:4], "machine" if row[1] == "zh" else "own"] for row in rows]
    assert not (survey_items.read_wording(write(tmp_path, translated), ordered)["wording"] == "file").any()


def test_a_language_in_which_the_items_are_not_worded_is_named(cfg, monkeypatch):
    plain = survey_items.load_items
    monkeypatch.setattr(survey_items, "load_items", lambda *a, **k: plain(*a, **k).drop(columns="text_zh"))
    with pytest.raises(DataError, match=r"items\.csv: no column text_zh: .*adding-a-culture\.md says what to add"):
        survey_items.choose_items(cfg)
