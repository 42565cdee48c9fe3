"""Overlap across languages: hand-worked cases, and linear programming and brute force as independent implementations."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from align_utils.norms import overlap
from align_utils.store.textfiles import DataError

SETTINGS = {"resamples": 50, "level": 0.95, "seed": 0}


def build(cue, **counts):
    frame = pd.DataFrame({"cue": cue, "response": list(counts), "count": list(counts.values())})
    return frame.assign(form=frame["response"].str.casefold(), rank=range(1, len(frame) + 1))


def link(**words):
    rows = [(word, other) for word, others in words.items() for other in others.split()]
    return pd.DataFrame(rows, columns=["form_first", "form_second"])


def share(p, q, links):
    """Overlap of two distributions, and how much of them is covered."""
    pair = pd.DataFrame({"first": ["dog"], "second": ["狗"]})
    (row,) = overlap.compare_overlap(pair, (build("dog", **p), build("狗", **q)), links).to_dict("records")
    return row["overlap"], row["covered"]


def test_overlap_worked_by_hand():
    p, q = {"cat": 4, "bone": 4, "x": 2}, {"猫": 5, "肉": 5}
    assert share(p, q, link(cat="猫", bone="骨", meat="肉")) == pytest.approx((0.4, 0.8))
    assert share(p, q, link(bone="骨")) == (0, 0), "one side covers nothing"


def test_a_word_with_many_translations_is_never_counted_twice_nor_chained():
    p, q = {"big": 1, "large": 1}, {"大": 1, "巨大": 1}
    assert share(p, q, link(big="大", large="大"))[0] == share(p, q, link(big="大 巨大"))[0] == 0.5
    assert share(p, q, link(big="大 巨大", large="大"))[0] == 1
    # a-x, b-x, b-y: connected groups would call a and y alike.
    p, q = {"a": 8, "b": 2}, {"x": 2, "y": 8}
    assert share(p, q, link(a="x", b="x y"))[0] == pytest.approx(0.4), "0.2 of a to x, 0.2 of b to y"


words_a, words_b = list("abcd"), list("wxyz")
counts_over = st.integers(1, 30)
edges_of = st.sets(st.tuples(st.sampled_from(words_a), st.sampled_from(words_b)))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(words_a), counts_over, min_size=1),
       st.dictionaries(st.sampled_from(words_b), counts_over, min_size=1), edges_of)  # fmt: skip
def test_matching_agrees_with_linear_programming(p, q, edges):
    open_edges = sorted((a, b) for a, b in edges if a in p and b in q)
    expected = 0.0
    if open_edges:
        limits = [[float(a == word) for a, _ in open_edges] for word in p] + [
            [float(b == word) for _, b in open_edges] for word in q
        ]
        room = [count / sum(p.values()) for count in p.values()] + [count / sum(q.values()) for count in q.values()]
        expected = -linprog(-np.ones(len(open_edges)), A_ub=limits, b_ub=room).fun
    found, covered = share(p, q, pd.DataFrame(sorted(edges), columns=["form_first", "form_second"]))
    assert found == pytest.approx(expected, abs=1e-9) and found <= covered + 1e-12, "a lower bound"


def test_cultures_of_one_language_share_words_as_they_are(english):
    p, q = {"cat": 3, "Bone": 1}, {"Cat": 1, "bone": 1, "tail": 2}
    pairs = pd.DataFrame({"cue_en": ["sun"]})
    known = overlap.link_words(pairs, (build("dog", **p), build("dog", **q)), (english, english))
    assert share(p, q, known) == (0.5, 1) and share(p, p, known) == (1, 1)


@dataclass
class Reader:
    data_dir: object
    languages: dict


@pytest.fixture
def reader(cfg, tmp_path):
    (tmp_path / "swow").mkdir()
    return Reader(tmp_path, cfg.languages)


def test_the_readers_translations_are_added_to_the_concept_pairs(reader, english, chinese):
    assert overlap.load_translations(reader, "en", "zh") is None
    path = reader.data_dir / "swow" / "translations.csv"
    path.write_text("zh,en,note\n大,Big,x\n巨大,big,x\n大,large,x\n", encoding="utf-8")
    table = overlap.load_translations(reader, "en", "zh")
    assert overlap.load_translations(reader, "en", "en") is None
    pairs = pd.DataFrame({"cue_en": ["dog", "big"], "cue_zh": ["狗", "高大"]})
    both = (None, None), (english, chinese)
    expected = link(dog="狗", big="高大 大 巨大", large="大")
    pd.testing.assert_frame_equal(overlap.link_words(pairs, *both, table), expected)
    pd.testing.assert_frame_equal(overlap.link_words(pairs, *both), link(dog="狗", big="高大"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("en,zh\nbig,大\nlarge,\n", "translations.csv, line 3: column 'zh': expected a word"),
        ("en,es\nbig,gran\n", "column zh not found"),
        (
            None,
            r"translations.csv: not there, but in .* do not count: translations.xlsx \(it ends otherwise: unpack, export or rename the table\)",
        ),
    ],
)
def test_a_damaged_translation_table_is_named_with_its_line(reader, text, message):
    (reader.data_dir / "swow" / ("translations.csv" if text else "translations.xlsx")).write_text(text or "", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        overlap.load_translations(reader, "en", "zh")


def test_wrong_partners_are_never_right_and_stay_in_their_domain():
    pairs = pd.DataFrame(
        {"first": list("abcdefgh"), "second": list("ABCDEFGH"), "domain": list("xxxxyyyz"), "family": [0, 0, *range(1, 7)]}
    )
    domain, family = pairs.set_index("second")["domain"], pairs.set_index("second")["family"]
    for within in ("domain", None):
        wrong = overlap.mismatch_pairs(pairs, within=within, rounds=20, seed=1)
        assert (wrong["second"].map(family) != wrong["family"]).all() and not wrong.duplicated(["round", "second"]).any()
        assert within is None or (wrong["second"].map(domain) == wrong["domain"]).all()
        assert set(wrong["first"]) == set("abcdefg" if within else "abcdefgh"), "a domain of one has no other"
        pd.testing.assert_frame_equal(wrong, overlap.mismatch_pairs(pairs, within=within, rounds=20, seed=1))
    assert len(set(wrong.query("first == 'a'")["second"])) > 1


def plant():
    """Six concepts in two domains: partners share their own word, and all of a domain share a little of one."""
    names = ["a1", "a2", "a3", "b1", "b2", "b3"]
    first = pd.concat([build(f"cue{name}", **{f"own{name}": 6, f"all{name[0]}": 4}) for name in names])
    second = pd.concat([build(f"线{name}", **{f"自{name}": 6, f"都{name[0]}": 4}) for name in names])
    pairs = pd.DataFrame({
        "first": [f"cue{name}" for name in names], "second": [f"线{name}" for name in names], "domain": [n[0] for n in names],
        "family": range(6),
    })  # fmt: skip
    return first, second, pairs, link(alla="都a", allb="都b", **{f"own{name}": f"自{name}" for name in names})


def test_chance_lines_find_what_was_planted():
    first, second, pairs, known = plant()
    partners = overlap.compare_partners(pairs, (first, second), known, rounds=30, seed=0)
    table = overlap.summarise_partners(partners, **SETTINGS).set_index("partner")
    assert table.loc["same concept", "value"] == 1 and table.loc["same domain", "value"] == pytest.approx(0.4)
    assert table["n"].tolist() == [6, 6, 6] and table["covered"].tolist() == [1, 1, 1]
    # Of five possible wrong partners two are of the domain: 2 / 5 of 0.4.
    assert table.loc["any concept", "value"] == pytest.approx(0.16, abs=0.06)
    domains = overlap.summarise_domains(partners, **SETTINGS)
    assert domains["value"].tolist() == pytest.approx([1, 0.4, 1, 0.4]) and domains["n"].tolist() == [3] * 4
    assert domains["label"].tolist() == ["a, 100% covered"] * 2 + ["b, 100% covered"] * 2


def test_extremes_are_the_ends_of_what_is_well_covered_and_never_the_same():
    """Coffee and 咖啡 both lead to Starbucks, which no pair links: their bound of 0 is no sign of difference and is not shown."""
    rows = [("a", 0.1, 0.5), ("b", 0.5, 0.6), ("coffee", 0.0, 0.2), ("d", 0.0, 0.6), ("e", 0.0, 0.7), ("f", 0.1, 0.1)]
    frame = pd.DataFrame(rows, columns=["first", "overlap", "covered"])
    picked = overlap.pick_extremes(frame, size=2)
    assert picked["side"].tolist() == ["most shared"] * 2 + ["least shared"] * 2
    assert picked["first"].tolist() == ["b", "a", "e", "d"], "of two zeros the better covered comes first"
    assert overlap.pick_extremes(frame.assign(covered=0.4), size=2).empty


def test_lists_stand_side_by_side_with_the_shared_words_marked(monkeypatch):
    monkeypatch.setattr(overlap, "LISTED", 3)
    first, second = build("dog", Cat=4, bone=3, tail=2, flea=1), build("狗", 忠诚=5, 尾巴=3, 猫=2)
    row = {"side": "most shared", "first": "dog", "second": "狗", "domain": "animals", "overlap": 0.5, "covered": 0.5}
    links = link(cat="猫", tail="尾巴", bone="骨")
    shown = overlap.show_lists(pd.DataFrame([row]), (first, second), links).iloc[0]
    assert shown["first responses"] == "[Cat], bone, [tail]" and shown["second responses"] == "忠诚, [尾巴], [猫]"
    assert shown["shared"] == "Cat 猫, tail 尾巴"
