"""Word ratings: the published forms read, mistakes of scale, column and script caught, matches counted, means over shared cues."""

import gzip
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from align_utils import config
from align_utils.lexical import bands as lexical_bands
from align_utils.lexical import ratings
from align_utils.norms import split, strengths
from align_utils.plots import lexical as lexical_plots
from align_utils.store.textfiles import DataError

TRADITIONAL = {"放松": "放鬆", "胜利": "勝利", "爱情": "愛情", "温暖": "溫暖"}


def words_of(language, name):
    """The anchors of a rating with made-up means: 4.5 and up for the high ones, 2 and down for the low."""
    anchors = language.ratings[name].anchors
    high, low = (
        [(w, base + step * i / 20) for i, w in enumerate(end)]
        for end, base, step in ((anchors.high, 4.5, 1), (anchors.low, 2, -1))
    )
    return [*high, *low]


def load_tables(cfg, folder, language):
    found, rows = ratings.load_ratings(config.Config(cfg.profile, cfg.root, folder), language)
    return found, pd.DataFrame([row for row in rows if row["rating"] in found])


def load(cfg, tmp_path, language, files):
    """Read a folder that holds these files (text, or a dict of sheets) as the run's ratings."""
    folder = tmp_path / "ratings"
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        if isinstance(content, dict):
            with pd.ExcelWriter(folder / name, engine="openpyxl") as book:
                for sheet, frame in content.items():
                    frame.to_excel(book, sheet_name=sheet, index=False)
        else:
            (folder / name).write_text(content, encoding="utf-8")
    return load_tables(cfg, tmp_path, language)


def table(header, rows, sep):
    return "\n".join(sep.join(map(str, row)) for row in [header, *rows]) + "\n"


BRYSBAERT = ["Word", "Bigram", "Conc.M", "Conc.SD", "Unknown", "Total", "Percent_known", "SUBTLEX", "Dom_Pos"]
WARRINER = ["", "Word", "V.Mean.Sum", "V.SD.Sum", "V.Rat.Sum", "A.Mean.Sum", "A.SD.Sum", "D.Mean.Sum"]


def brysbaert(english, **more):
    rows = [*words_of(english, "concreteness"), ("Zebra crossing", 4.8), ("null", 1.9), *more.items()]
    return [[word, int(" " in word), mean, 0.5, 1, 27, 0.96, 0, 0] for word, mean in rows]


def test_english_files_as_published(cfg, tmp_path, english):
    affect = {name: dict(words_of(english, name)) for name in ("valence", "arousal", "dominance")}
    words = sorted(set().union(*affect.values()))
    rows = [
        [i, w, affect["valence"].get(w, 5), 1.1, 20, affect["arousal"].get(w, 3), 2, affect["dominance"].get(w, 4)]
        for i, w in enumerate(words)
    ]
    files = {
        "Concreteness_ratings_Brysbaert_et_al_BRM.txt": table(BRYSBAERT, brysbaert(english), "\t"),
        "Ratings_Warriner_et_al.csv": table(WARRINER, rows, ","),
    }
    found, sources = load(cfg, tmp_path, english, files)
    assert set(found) == {"concreteness", "valence", "arousal", "dominance"}
    assert found["concreteness"]["zebra crossing"] == 4.8 and found["concreteness"]["null"] == 1.9
    assert found["concreteness"]["apple"] == pytest.approx(4.55) and found["arousal"]["sleep"] == pytest.approx(1.95)
    assert sources["anchors"].str.startswith("in order: 10 of 10 high and 10 of 10 low").all()


@pytest.mark.parametrize(
    ("name", "sep"),
    [("BRM-emot-submit.csv", ","), ("Ratings_Warriner_et_al (1).csv", ";"), ("ratings_warriner_et_al.CSV.gz", "\t")],
)
def test_the_names_that_people_have_after_unpacking(cfg, tmp_path, english, name, sep):
    rows = [
        [i, f'"{word}"' if sep == "\t" else word, str(mean).replace(".", "," if sep == ";" else "."), 1, 9, 3, 2, 4]
        for i, (word, mean) in enumerate(words_of(english, "valence"))
    ]
    header = [f'"{column}"' for column in WARRINER] if sep == "\t" else WARRINER
    (tmp_path / "ratings").mkdir()
    raw = table(header, rows, sep).encode()
    (tmp_path / "ratings" / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    english = english.model_copy(update={"ratings": {"valence": english.ratings["valence"]}})
    found, sources = load_tables(cfg, tmp_path, english)
    assert found["valence"]["happy"] == 4.5 and sources["file"].tolist() == [name]


def test_what_is_no_ratings_file_is_left_aside_or_named(cfg, tmp_path, english):
    rows = [[word, 0, mean, 1, 0, 20, 1, 0, 0] for word, mean in words_of(english, "concreteness")]
    text, name = table(BRYSBAERT, rows, "\t"), "Concreteness_ratings_Brysbaert_et_al_BRM.txt"
    (tmp_path / "ratings/13428_2012_314_MOESM1_ESM.zip").parent.mkdir()
    (tmp_path / "ratings/13428_2012_314_MOESM1_ESM.zip").touch()
    found, sources = load(cfg, tmp_path, english, {name: text, f"{name}.bak": "", "Concreteness_ratings_Brysbaert 2.txt": text})
    assert sources["file"].tolist() == [name] and "is read, not Concreteness_ratings_Brysbaert 2.txt" in sources["note"][0]
    _, rows = ratings.load_ratings(config.Config(cfg.profile, cfg.root, tmp_path), english)
    absent = {row["rating"]: row["file"] for row in rows if row["rating"] not in found}
    assert absent["valence"].endswith(
        "do not count: 13428_2012_314_MOESM1_ESM.zip (it ends otherwise: unpack, export or rename the table)"
    )


parts = st.lists(
    st.sampled_from(
        [
            "Word",
            "V.Mean.Sum",
            "happy",
            "5",
            "1,5",
            '"',
            "\t",
            ",",
            ";",
            "\n",
            "\r",
            ": ",
            "{",
            "}",
            "[",
            "Dictionary",
            "valence",
        ]
    ),
    max_size=25,
)
files = st.one_of(
    st.binary(max_size=100), parts.map("".join).map(str.encode), parts.map(lambda text: ("Word,V.Mean.Sum\n" + "".join(text)).encode()),
    parts.map(lambda text: ("Dictionary:\n  happy: {V.Mean.Sum: 5}\n" + "".join(text)).encode()),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files, st.sampled_from(["r.csv", "r.csv.gz", "r.xlsx", "r.yaml"]), st.integers(0, 5000))
def test_whatever_bytes_sound_ratings_or_one_sentence(tmp_path, english, raw, name, spoilt):
    path = tmp_path / name
    if name == "r.xlsx" and len(raw) % 2:  # a true workbook with one byte changed
        pd.DataFrame({"Word": ["happy"], "V.Mean.Sum": [5]}).to_excel(path, index=False)
        whole = bytearray(path.read_bytes())
        whole[spoilt % len(whole)] ^= 255
        raw = bytes(whole)
    path.write_bytes(raw)
    rating = english.ratings["valence"]
    try:
        values, _ = ratings.load_rating(path, rating.sources[0], rating, english, name="valence")
    except DataError as error:
        assert name in str(error)
        return
    assert values.between(1, 9).all() and values.index.is_unique and "" not in values.index


def test_the_journals_workbook_reads_like_the_text(cfg, tmp_path, english):
    sheet = pd.DataFrame(brysbaert(english, TRUE=2.2), columns=BRYSBAERT)
    found, sources = load(cfg, tmp_path, english, {"13428_2013_403_MOESM1_ESM.xlsx": {"Sheet1": sheet}})
    assert found["concreteness"].to_dict() == {
        str(w).casefold(): pytest.approx(m) for w, m in zip(sheet["Word"], sheet["Conc.M"], strict=True)
    }
    # With the text file beside it the workbook is not opened.
    broken = {"Concreteness_ratings_Brysbaert_et_al_BRM.txt": table(BRYSBAERT, brysbaert(english, dragon=3.0), "\t")}
    found, sources = load(cfg, tmp_path, english, broken)
    assert "dragon" in found["concreteness"] and sources["file"].tolist() == ["Concreteness_ratings_Brysbaert_et_al_BRM.txt"]


XU_LI = "Concretenss Ratings of 9877 Two Character Chinese Words.xlsx"


def xu_li(chinese, turn):
    rows = words_of(chinese, "concreteness")
    frame = pd.DataFrame(
        {"Word ID": range(len(rows)), "Word": [w for w, _ in rows], "Mean of Valid Ratings": [turn(m) for _, m in rows]}
    )
    return {"About": pd.DataFrame({"x": [1]}), "Concreteness Ratings": frame}


def test_a_reversed_workbook_is_turned_and_one_turned_already_is_refused(cfg, tmp_path, chinese):
    found, sources = load(cfg, tmp_path, chinese, {XU_LI: xu_li(chinese, lambda mean: 6 - mean)})
    assert found["concreteness"]["苹果"] == pytest.approx(4.55) and found["concreteness"]["真理"] == pytest.approx(1.95)
    assert sources["note"].tolist() == ["turned: 6 - x"]
    with pytest.raises(DataError) as caught:
        load(cfg, tmp_path, chinese, {XU_LI: xu_li(chinese, lambda mean: mean)})
    for part in (XU_LI, "reversed: false", "now true", "桌子", "希望", "zh.yaml", "ratings.concreteness"):
        assert part in str(caught.value), part
    with pytest.raises(DataError, match="sheet 'Concreteness Ratings' not found; the workbook holds: Sheet1"):
        load(cfg, tmp_path, chinese, {XU_LI: {"Sheet1": pd.DataFrame({"Word": ["x"]})}})


def test_a_reversed_scale_a_wrong_column_and_a_wrong_range_are_one_error_each(cfg, tmp_path, english):
    name = "Concreteness_ratings_Brysbaert_et_al_BRM.txt"
    turned = [[row[0], row[1], round(6 - row[2], 4), *row[3:]] for row in brysbaert(english)]
    with pytest.raises(
        DataError, match=r"BRM\.txt.*table, apple.*hope, truth.*set 'reversed: true' \(now false\) in .*en\.yaml"
    ):
        load(cfg, tmp_path, english, {name: table(BRYSBAERT, turned, "\t")})
    shuffled = [[row[0], row[1], 1 + (i * 7) % 10 / 3, *row[3:]] for i, row in enumerate(brysbaert(english))]
    with pytest.raises(DataError, match=r"does not hold this rating: see 'value: Conc\.M'"):
        load(cfg, tmp_path, english, {name: table(BRYSBAERT, shuffled, "\t")})
    with pytest.raises(DataError, match=r"BRM\.txt, line 24, column 'Conc\.M': expected a number from 1 to 5, found '5\.2'"):
        load(cfg, tmp_path, english, {name: table(BRYSBAERT, brysbaert(english, dragon=5.2), "\t")})
    few = {f"word{i}": 1 + i / 200 for i in range(120)}
    with pytest.raises(DataError, match=r"expected ratings from 1 to 5, found all 120 between 1 and 1\.595; set low and high"):
        load(cfg, tmp_path, english, {name: table(["Word", "Conc.M"], few.items(), "\t")})


def test_too_few_anchors_are_stated_as_not_checked(cfg, tmp_path, english):
    rows = [("table", 1.0), ("apple", 1.2), ("hope", 4.9), ("truth", 4.9), ("zebra", 5)]
    _, sources = load(cfg, tmp_path, english, {"concreteness.en.csv": table(["Word", "Conc.M"], rows, ",")})
    assert sources["anchors"].tolist() == ["not checked: 2 of 10 high and 2 of 10 low anchors in the file"]


def emobank(chinese, convert):
    affect = {name: dict(words_of(chinese, name)) for name in ("valence", "arousal")}
    words = sorted({*affect["valence"], *affect["arousal"], *TRADITIONAL})
    return [(i, convert(w), affect["valence"].get(w, 5), affect["arousal"].get(w, 4), 0.8, 1.4) for i, w in enumerate(words)]


def test_traditional_script_is_converted_and_counted_or_refused_with_the_command(cfg, tmp_path, chinese, monkeypatch):
    from opencc import OpenCC

    header = ["", "Word", "Valence_Mean", "Arousal_Mean", "Valence_SD", "Arousal_SD"]
    rows = emobank(chinese, OpenCC("s2t").convert)
    assert {row[1] for row in rows} >= set(TRADITIONAL.values()), "the fixture is in traditional script"
    files = {"CVAW_all_SD.csv": table(header, rows, "\t")}
    found, sources = load(cfg, tmp_path, chinese, files)
    simplified = emobank(chinese, str)
    assert found["valence"].to_dict() == {row[1]: pytest.approx(row[2]) for row in simplified}
    changed = sum(a[1] != b[1] for a, b in zip(rows, simplified, strict=True))
    assert sources["note"].tolist() == [f"traditional script: {changed} of {len(rows)} words converted"] * 2
    monkeypatch.setattr(ratings, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"CVAW_all_SD\.csv.*traditional script.*OpenCC.*pip install .*\[ratings\]"):
        load_tables(cfg, tmp_path, chinese)
    (tmp_path / "ratings/CVAW_all_SD.csv").write_text(table(header, simplified, "\t"))
    _, sources = load_tables(cfg, tmp_path, chinese)
    assert sources["note"].eq("").all(), "simplified words need no package"


def test_a_workbook_without_its_package_names_the_command_and_a_csv_beside_it_needs_none(cfg, tmp_path, chinese, monkeypatch):
    files = {XU_LI: xu_li(chinese, lambda mean: 6 - mean)}
    load(cfg, tmp_path, chinese, files)
    monkeypatch.setattr(ratings, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"openpyxl.*pip install .*\[ratings\]"):
        load_tables(cfg, tmp_path, chinese)
    text = files[XU_LI]["Concreteness Ratings"].to_csv(index=False)
    found, _ = load(cfg, tmp_path, chinese, {XU_LI.replace("xlsx", "csv"): text})
    assert found["concreteness"]["苹果"] == pytest.approx(4.55)


def test_cntext_yaml_keeps_words_that_yaml_would_turn_and_names_the_line(cfg, tmp_path, chinese):
    rows = emobank(chinese, str)
    lines = [
        "Name: EmoBank",
        "Dictionary:",
        *(f"  {w}: {{valence: {v}, arousal: {a}}}" for _, w, v, a, _, _ in rows),
        "  no: {valence: 5, arousal: 5}",
    ]
    found, _ = load(cfg, tmp_path, chinese, {"zh_valence_ChineseEmoBank.yaml": "\n".join(lines)})
    assert len(found["arousal"]) == len(rows) + 1 and found["valence"]["no"] == 5
    with pytest.raises(DataError, match=rf"line {len(lines)}, column 'valence': expected a number from 1 to 9, found '55'"):
        load(
            cfg,
            tmp_path,
            chinese,
            {"zh_valence_ChineseEmoBank.yaml": "\n".join([*lines[:-1], "  no: {valence: 55, arousal: 5}"])},
        )
    with pytest.raises(DataError, match="expected 'Dictionary"):
        load(cfg, tmp_path, chinese, {"zh_valence_ChineseEmoBank.yaml": "Dictionary: [a, b]"})


def test_another_scale_is_put_on_the_ratings_own(cfg, tmp_path, chinese):
    rows = [(w, round((v - 1) / 4 - 1, 4), round((a - 1) / 2 - 0, 4)) for _, w, v, a, _, _ in emobank(chinese, str)]
    rows = [*rows, ("甲", -3, 0), ("乙", 3, 4), ("丙", 0, 2)]
    files = {"13428_2021_1607_MOESM1_ESM.csv": table(["Word", "Valence_Mean", "Arousal_Mean"], rows, ",")}
    found, sources = load(cfg, tmp_path, chinese, files)
    assert [found["valence"][w] for w in "甲乙丙"] == [1, 9, 5] and [found["arousal"][w] for w in "甲乙丙"] == [1, 9, 5]
    assert sources["note"].tolist() == ["put from -3 to 3 on the scale linearly", "put from 0 to 4 on the scale linearly"]


def test_matches_are_counted_exact_before_lemma_and_several_words_only_exact(english, chinese):
    scale = pd.Series({"dog": 5.0, "run": 3.0, "running": 4.0, "ice cream": 4.5, "moon": 4.9})
    lists = pd.DataFrame({
        "cue": ["a", "b", "c"], "responses": [["Dogs", "running", "ice creams", "blue moons"], ["xyz", "dog"], []],
        "weights": [[4.0, 3.0, 2.0, 1.0], [1.0, 1.0], []],
    })  # fmt: skip
    first, second, none = ratings.rate_responses(lists, {"c": scale}, english).to_dict("records")
    assert (first["exact"], first["lemma"], first["unrated"]) == pytest.approx((0.3, 0.4, 0.3))
    assert first["value"] == pytest.approx((4 * 5 + 3 * 4) / 7) and second["value"] == 5 and second["unrated"] == 0.5
    assert np.isnan([none["value"], none["exact"], none["unrated"]]).all()
    assert ratings.match_words(["女儿"], pd.Series({"女": 4.0}), chinese)["match"].tolist() == ["unrated"]


def test_bands_hold_equal_shares_of_tokens_and_equal_counts_stay_together(english):
    words = pd.DataFrame({"response": ["a", "A", "b", "c", "d", "e"], "count": [5, 1, 3, 1, 1, 1]})
    bands = lexical_bands.band_words(words, english, bands=2)
    # 12 tokens: a (6) fills the first half; b (3) and the three of count 1 the second.
    assert bands["band"].to_dict() == {"a": 1, "b": 2, "c": 2, "d": 2, "e": 2} and bands["count"]["a"] == 6


def test_band_table_and_reweighting_worked_by_hand(english, monkeypatch):
    scale, bands = pd.Series({"a": 2.0, "b": 4.0, "c": 5.0}), pd.Series({"a": 1, "b": 1, "c": 2, "d": 2})
    people = pd.DataFrame({"cue": ["x"], "responses": [["a", "c", "d"]], "weights": [[2.0, 1.0, 1.0]]})
    model = pd.DataFrame({"cue": ["x", "y"], "responses": [["a", "b", "c", "new"], ["b"]]})
    human = lexical_bands.tabulate_bands(people, scale, bands, english)
    assert human[["share", "rated", "value"]].to_numpy().tolist() == [[0.5, 1.0, 2.0], [0.5, 0.5, 5.0]]
    mine = lexical_bands.tabulate_bands(model, scale, bands, english).set_index("band")
    assert mine["share"].to_dict() == {lexical_bands.UNSEEN: 0.125, 1: 0.75, 2: 0.125}
    assert mine.loc[1, "value"] == pytest.approx((0.25 * 2 + 0.25 * 4 + 4) / 1.5) and np.isnan(
        mine.loc[lexical_bands.UNSEEN, "value"]
    )
    monkeypatch.setattr(lexical_bands, "FEWEST_RATED", 1)
    shown = lexical_bands.reweigh_mean(mine.reset_index(), human)
    # People answer half of the time in each band; the plain mean of the model is over 7/8 of its weight.
    assert shown["reweighed"] == pytest.approx((11 / 3 + 5) / 2) and shown["human"] == 3.5 and shown["bands"] == "1, 2"
    assert shown["mean"] == pytest.approx((0.75 * 11 / 3 + 0.125 * 5) / 0.875)
    monkeypatch.setattr(lexical_bands, "FEWEST_RATED", 2)
    assert lexical_bands.reweigh_mean(mine.reset_index(), human)["bands"] == "", "a mean of one word is no band"


def test_people_stand_beside_a_list_of_a_models_length_too(cfg, english):
    words = ["cat", "bone", "moon", "tail", "paw", "leash"]
    norms = pd.DataFrame({"cue": "dog", "response": words, "strength": [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]})
    own = split.CultureNorms(norms, {"test": ["dog"]}, cfg.root)
    lists = pd.DataFrame({"model": "tiny", "culture": "us", "stage": "sft", "cue": ["dog"], "responses": [[*words, "more"]]})
    conditions = ratings.list_conditions(cfg.models, lists, "us", own)
    scale = {"valence": pd.Series({"cat": 7.0, "bone": 5.0, "moon": 6.0, "tail": 5.0, "paw": 5.0, "leash": 1.0})}
    full, short, mine = (
        ratings.rate_responses(conditions["tiny", stage], scale, english)["value"].item()
        for stage in ("human", "human_top5", "sft")
    )
    assert full == pytest.approx(0.5 * 7 + 0.1 * 22) and short == pytest.approx((7 + 5 + 1 + 6 + 5) / 5)
    assert mine == pytest.approx((7 + 5 + 6 + 5 + 5) / 5), "the first five of a longer list"


def test_figure_draws_one_line_a_stage_with_its_number_of_cues():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        [("us", "valence", stage, v) for stage in ("ppo", "human", "sft", "zero_shot") for v in rng.normal(5, 1, 9)],
        columns=["culture", "rating", "stage", "value"],
    )
    figure = lexical_plots.plot_ratings(frame)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "people (9)",
        "after SFT (9)",
        "after PPO (9)",
    ]


def test_real_files_order_their_anchors_and_lemmas_agree_with_words(real_data):
    cfg = config.load("cpu_real", data_dir=real_data)
    english, chinese = cfg.languages["en"], cfg.languages["zh"]
    found, sources = load_tables(cfg, real_data, english)
    more, others = load_tables(cfg, real_data, chinese)
    assert all(
        re.match("in order: (9|10) of 10 high and (9|10) of 10", text) for text in [*sources["anchors"], *others["anchors"]]
    )
    scale = found["concreteness"]
    # Does a lemma's rating stand for the word's? Over inflected words that have a rating of their own.
    hidden = scale[[" " not in word for word in scale.index]]
    lemmas = split.fold_words(list(hidden.index), english, "lemma")
    pairs = [(hidden[word], scale[lemma]) for word, lemma in lemmas.items() if lemma != word and lemma in scale.index]
    assert len(pairs) > 200 and np.corrcoef(np.array(pairs).T)[0, 1] > 0.6
    us, cn = (
        frame.groupby("cue").agg(responses=("response", list), weights=("strength", list)).reset_index()
        for frame in (strengths.load_norms(cfg)[name].norms for name in ("us", "cn"))
    )
    cover = ratings.rate_responses(us, found, english).groupby("rating")[list(ratings.MATCHES)].mean()
    assert (
        cover.loc["concreteness", "exact"] > 0.9
        and cover.loc["valence", "exact"] > 0.8
        and cover["lemma"].between(0.01, 0.1).all()
    )
    cover = ratings.rate_responses(cn, more, chinese).groupby("rating")[list(ratings.MATCHES)].mean()
    assert cover["exact"].between(0.1, 0.4).all() and cover["lemma"].eq(0).all()
