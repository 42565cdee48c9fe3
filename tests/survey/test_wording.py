"""The reader's own wording: sound in every language or not at all, and every refusal has its reason."""

import csv

import pytest
from conftest import ROOT

from align_utils.config import profiles as config
from align_utils.store.textfiles import DataError
from align_utils.survey import items as survey_items
from align_utils.survey.items import describe_wording, read_wording

AGREE = "1. Yes, strongly | 2. Yes | 3. No | 4. No, strongly"
ZH_AGREE = "1. 很对 | 2. 对 | 3. 不对 | 4. 很不对"
HEADER = ["question", "language", "text", "options", "origin"]


@pytest.fixture(scope="module")
def items():
    return survey_items.load_items(ROOT / "data" / "survey", choice="all")


def write(folder, rows, header=HEADER):
    path = folder / "questions.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def pair(question, en="Is it so?", zh="是这样吗？", en_options=AGREE, zh_options=ZH_AGREE, origin="own"):
    return [[question, "en", en, en_options, origin], [question, "zh", zh, zh_options, origin]]


def test_sound_rows_replace_sentence_and_labels_in_scale_order(tmp_path, items):
    better = "1. Better | 2. Worse | 3. Same"
    ends = "1. Bad | 10. Good"
    rows = (
        pair("Q27")
        + pair("Q56", "How?", "怎样？", better, "1. 更好 | 2. 更糟 | 3. 一样")
        + pair("Q49", "So?", "满意吗？", ends, "1. 坏 | 10. 好")
    )
    rows += pair("Q254", "Proud?", "自豪吗？", AGREE + " | 5. No citizen", ZH_AGREE + " | 5. 不是公民")
    result = read_wording(write(tmp_path, rows), items).set_index("question")
    assert set(result.index[result["wording"] == "file"]) == {"Q27", "Q56", "Q49", "Q254"}
    assert result.loc["Q56", "labels_en"] == ["Better", "Same", "Worse"]  # the survey's codes stand in another order
    assert result.loc["Q49", "labels_zh"] == ["坏", *map(str, range(2, 10)), "好"]
    assert len(result.loc["Q254", "labels_en"]) == 4 and result.loc["Q27", "text_zh"] == "是这样吗？"
    ours = items.set_index("question")
    rest = result.index[result["wording"] != "file"]
    assert (result.loc[rest, "text_en"] == ours.loc[rest, "text_en"]).all()
    assert set(result.loc[rest, "wording"]) == {"ours: en has no row"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"zh": ""}, "ours: zh has no text"),
        (
            {
                "question": "Q49",
                "en": "Happy, where 1 is bad and 10 is good?",
                "en_options": "1. Bad | 10. Good",
                "zh_options": "1. 坏 | 10. 好",
            },
            "ours: en names an end of its scale by numeral, which the descending order would turn round",
        ),
        (
            {
                "question": "Q49",
                "zh": "十表示满意，您选几？",
                "en_options": "1. Bad | 10. Good",
                "zh_options": "1. 坏 | 10. 好",
            },
            "ours: zh names an end of its scale by numeral, which the descending order would turn round",
        ),
        ({"zh": "您对[国家]怎么看？"}, "ours: zh leaves a place open ([国家])"),
        ({"origin": "machine"}, "ours: en is a machine's translation"),
        ({"origin": ""}, "ours: en has an origin other than official, own, machine"),
        ({"en": "正当化できますか"}, "ours: en is written in another script (CJK, HIRAGANA)"),
        ({"zh": "正しいと思いますか"}, "ours: zh is written in another script (HIRAGANA)"),
        ({"zh": "Is it so?", "zh_options": AGREE}, "ours: zh is written in another script (LATIN)"),
        ({"en_options": "1. Yes | 2. No"}, "ours: en has options that are not the scale's codes"),
        ({"en_options": AGREE + " | 5. Perhaps"}, "ours: en has options that are not the scale's codes"),
        (
            {"en_options": "1. Yes | 1. Yes, a bit | 2. Well | 3. Hm | 4. No"},
            "ours: en has options that are not the scale's codes",
        ),
        ({"zh_options": "1. 对 | 2. 对 | 3. 不对 | 4. 很不对"}, "ours: zh has a label twice or an empty one"),
    ],
    ids=str,
)
def test_a_damaged_row_keeps_our_item_in_both_languages(tmp_path, items, change, reason):
    damaged = {"question": "Q28", **change}
    path = write(tmp_path, pair("Q27") + pair(**damaged))
    result = read_wording(path, items).set_index("question")
    assert result.loc[damaged["question"], "wording"] == reason
    ours = items.set_index("question").loc[damaged["question"]]
    assert result.loc[damaged["question"], ours.index.drop("question", errors="ignore")].equals(ours)


def test_a_row_twice_is_refused_and_an_abbreviation_is_not(tmp_path, items):
    rows = pair("Q27", zh="您在多大程度上信任世界卫生组织这个机构（WHO）？") + pair("Q28") + pair("Q28")[:1]
    result = read_wording(write(tmp_path, rows), items).set_index("question")
    assert result.loc["Q27", "wording"] == "file" and result.loc["Q28", "wording"] == "ours: en has 2 rows"


def test_a_file_without_a_sound_item_leaves_ours_and_one_without_a_stated_origin_stops(tmp_path, items):
    result = read_wording(write(tmp_path, pair("Q27", zh="")), items)
    assert result.drop(columns="wording").equals(items)
    assert describe_wording(result) == "Wording: 0 items in that of the file, 233 in ours (most often: en has no row, 232)."
    rows = [row[:4] for row in pair("Q27")]
    with pytest.raises(DataError, match="column origin not found"):
        read_wording(write(tmp_path, rows, HEADER[:4]), items)


def test_the_file_is_read_only_when_the_profile_asks(tmp_path):
    (tmp_path / "swow").mkdir()
    (tmp_path / "wvs").mkdir()
    write(tmp_path / "wvs", pair("Q27"))
    cfg = config.load("cpu_real", data_dir=tmp_path)
    assert describe_wording(survey_items.choose_items(cfg)) == (
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
    assert describe_wording(absent).endswith(
        "0 items in that of the file, 233 in ours (most often: there is no wvs/questions.csv, 233)."
    )
    assert absent.drop(columns="wording").equals(survey_items.load_items(ROOT / "data" / "survey", choice="all"))


def test_runs_with_official_files_ask_in_their_words_but_the_measured_one():
    found = {name: config.read_profile(name, root=ROOT).survey.wording for name in ("cpu", "cpu_real", "colab", "paper")}
    assert found == {"cpu": "ours", "cpu_real": "ours", "colab": "file", "paper": "file"}


def test_the_research_copy_is_refused_for_its_origin_and_its_damage(tmp_path, real_data, items):
    source = real_data / "wvs" / "questions.csv"
    if not source.is_file():
        pytest.skip("ALIGN_DATA holds no wvs/questions.csv")
    with pytest.raises(DataError, match="column origin not found"):
        read_wording(source, items)
    with source.open(encoding="utf-8", newline="") as file:
        known = list(csv.DictReader(file))
    rows = [[row[name] for name in HEADER[:4]] + ["own"] for row in known]
    result = read_wording(write(tmp_path, rows), items).set_index("question")["wording"]
    assert result["Q52"] == "ours: en has no row" and "Q42" not in result
    assert result["Q192"].startswith("ours: en") and result["Q182"].startswith("ours: en")
    assert result["Q176"] == "ours: zh has options that are not the scale's codes" and result["Q2"] == "file"
    translated = [[*row[:4], "machine" if row[1] == "zh" else "own"] for row in rows]
    assert not (read_wording(write(tmp_path, translated), items)["wording"] == "file").any()
