"""Overlap across languages: hand-worked cases, and linear programming and brute force as independent implementations."""

from dataclasses import dataclass
from itertools import permutations

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
    return frame.assign(rank=range(1, len(frame) + 1), n=frame["count"].sum())


def link(**words):
    return {word: frozenset(others.split()) for word, others in words.items()}


@pytest.fixture
def both(english, chinese):
    return english, chinese


def test_overlap_worked_by_hand(both):
    first, second = build("dog", cat=4, bone=4, x=2), build("狗", 猫=5, 肉=5)
    pairs = pd.DataFrame({"first": ["dog"], "second": ["狗"], "domain": ["animals"]})
    known = link(cat="猫", bone="骨", meat="肉")
    (row,) = overlap.compare_overlap((first, second), pairs, known, both, k=5).to_dict("records")
    assert row["overlap"] == pytest.approx(0.4) and row["jaccard"] == pytest.approx(1 / 3) and row["domain"] == "animals"
    assert (row["covered_first"], row["covered_second"], row["covered"]) == pytest.approx((0.8, 1, 0.8))
    (top,) = overlap.compare_overlap((first, second), pairs, known, both, k=1).to_dict("records")
    assert top["jaccard"] == 1 and top["overlap"] == row["overlap"], "k cuts the sets, not the mass"
    (none,) = overlap.compare_overlap((first, second), pairs, link(bone="骨"), both, k=5).to_dict("records")
    assert none["overlap"] == 0 and np.isnan(none["jaccard"]) and none["covered"] == 0 and none["covered_first"] == 0.4


def test_a_word_with_many_translations_is_never_counted_twice_nor_chained():
    p, q = {"big": 1, "large": 1}, {"大": 1, "巨大": 1}
    assert (
        overlap.match_mass(p, q, link(big="大", large="大")) == 0.5
        and overlap.match_sets(p, q, link(big="大", large="大")) == 1 / 3
    )
    assert (
        overlap.match_mass(p, q, link(big="大 巨大")) == 0.5 and overlap.match_mass(p, q, link(big="大 巨大", large="大")) == 1
    )
    # a-x, b-x, b-y: connected groups would call a and y alike.
    p, q = {"a": 8, "b": 2}, {"x": 2, "y": 8}
    assert overlap.match_mass(p, q, link(a="x", b="x y")) == pytest.approx(0.4), "0.2 of a to x, 0.2 of b to y"


words_a, words_b = list("abcd"), list("wxyz")
counts_over = st.integers(1, 30)
edges_of = st.sets(st.tuples(st.sampled_from(words_a), st.sampled_from(words_b)))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(words_a), counts_over, min_size=1),
       st.dictionaries(st.sampled_from(words_b), counts_over, min_size=1), edges_of)  # fmt: skip
def test_matching_agrees_with_linear_programming_and_brute_force(p, q, edges):
    known = {a: frozenset(b for one, b in edges if one == a) for a in words_a}
    open_edges = sorted((a, b) for a, b in edges if a in p and b in q)
    expected, most = 0.0, 0
    if open_edges:
        limits = [[float(a == word) for a, _ in open_edges] for word in p] + [
            [float(b == word) for _, b in open_edges] for word in q
        ]
        room = [count / sum(p.values()) for count in p.values()] + [count / sum(q.values()) for count in q.values()]
        expected = -linprog(-np.ones(len(open_edges)), A_ub=limits, b_ub=room).fun
        short, long = sorted((list(p), list(q)), key=len)
        both_ways = set(open_edges) | {(b, a) for a, b in open_edges}
        most = max(
            sum(couple in both_ways for couple in zip(short, order, strict=True)) for order in permutations(long, len(short))
        )
    assert overlap.match_mass(p, q, known) == pytest.approx(expected, abs=1e-9)
    assert overlap.match_sets(list(p), list(q), known) == pytest.approx(most / (len(p) + len(q) - most))


def test_too_many_tokens_for_the_exact_flow_are_an_error_and_do_not_wrap():
    with pytest.raises(ValueError, match="too large"):
        overlap.match_mass({"a": 10**5, "b": 1}, {"x": 10**5}, link(a="x", b="x"))


def test_cultures_of_one_language_share_words_as_they_are(english):
    first, second = build("dog", cat=3, Bone=1), build("dog", Cat=1, bone=1, tail=2)
    pairs = pd.DataFrame({"cue_en": ["sun"]})
    known = overlap.link_words(pairs, (first, second), (english, english))
    pair = pd.DataFrame({"first": ["dog"], "second": ["dog"]})
    (row,) = overlap.compare_overlap((first, second), pair, known, (english, english), k=5).to_dict("records")
    assert row["overlap"] == pytest.approx(0.5) and row["covered"] == 1 and row["jaccard"] == pytest.approx(2 / 3)
    (same,) = overlap.compare_overlap((first, first), pair, known, (english, english), k=5).to_dict("records")
    assert same["overlap"] == same["jaccard"] == 1


@dataclass
class Reader:
    data_dir: object
    languages: dict


@pytest.fixture
def reader(cfg, tmp_path):
    (tmp_path / "swow").mkdir()
    return Reader(tmp_path, cfg.languages)


def test_the_readers_translations_are_added_to_the_concept_pairs(reader, both):
    assert overlap.load_translations(reader, "en", "zh") is None
    path = reader.data_dir / "swow" / "translations.csv"
    path.write_text("zh,en,note\n大,Big,x\n巨大,big,x\n大,large,x\n", encoding="utf-8")
    table = overlap.load_translations(reader, "en", "zh")
    assert overlap.load_translations(reader, "en", "en") is None
    pairs = pd.DataFrame({"cue_en": ["dog", "big"], "cue_zh": ["狗", "高大"]})
    expected = link(dog="狗", big="大 巨大 高大", large="大")
    assert overlap.link_words(pairs, (None, None), both, table) == expected
    assert overlap.link_words(pairs, (None, None), both) == link(dog="狗", big="高大")


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


def test_chance_lines_find_what_was_planted(both):
    first, second, pairs, known = plant()
    partners = overlap.compare_partners((first, second), pairs, known, both, k=5, rounds=30, seed=0)
    table = overlap.summarise_partners(partners, **SETTINGS).set_index("partner")
    assert table.loc["same concept", "value"] == 1 and table.loc["same domain", "value"] == pytest.approx(0.4)
    assert table["n"].tolist() == [6, 6, 6] and np.isnan(table.loc["same concept", "above"])
    # Of five possible wrong partners two are of the domain: 2 / 5 of 0.4.
    assert table.loc["any concept", "value"] == pytest.approx(0.16, abs=0.06)
    assert table.loc["same domain", "above"] == pytest.approx(0.6)
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


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(words_a), counts_over, min_size=1),
       st.dictionaries(st.sampled_from(words_b), counts_over, min_size=1), edges_of, edges_of)  # fmt: skip
def test_the_overlap_is_a_lower_bound_that_more_links_can_only_raise(english, chinese, p, q, few, more):
    def bound(edges):
        known = {a: frozenset(b for one, b in edges if one == a) for a in words_a if any(one == a for one, _ in edges)}
        pair = pd.DataFrame({"first": ["dog"], "second": ["狗"]})
        (row,) = overlap.compare_overlap((build("dog", **p), build("狗", **q)), pair, known, (english, chinese), k=5).to_dict(
            "records"
        )
        return row["overlap"], row["covered"]

    (low, covered), (high, _) = bound(few), bound(few | more)
    assert low <= covered + 1e-12 and low <= high + 1e-12


def test_lists_stand_side_by_side_with_the_shared_words_marked(both):
    first, second = build("dog", Cat=4, bone=3, tail=2, flea=1), build("狗", 忠诚=5, 尾巴=3, 猫=2)
    row = {"side": "most shared", "first": "dog", "second": "狗", "domain": "animals", "overlap": 0.5, "covered": 0.5}
    shown = overlap.show_lists(pd.DataFrame([row]), (first, second), link(cat="猫", tail="尾巴", bone="骨"), both, size=3).iloc[
        0
    ]
    assert shown["first responses"] == "[Cat], bone, [tail]" and shown["second responses"] == "忠诚, [尾巴], [猫]"
    assert shown["shared"] == "Cat 猫, tail 尾巴"
