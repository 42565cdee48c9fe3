"""Official formats with their traps: bad input is one clear error or a counted repair, never a silent change of numbers."""

import gzip
import re

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from align_utils.norms import strengths
from align_utils.store import textfiles
from align_utils.store.textfiles import DataError

ENGLISH = "cue\tresponse\tR123\tN\tR123.Strength\n"
CHINESE = "cue,response,R123,N,R123.Strength\n"


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_words_that_readers_take_for_missing_stay_words(tmp_path, english):
    text = ENGLISH + 'nothing\tnull\t5\t20\t0.25\nnothing\tnan\t3\t20\t0.15\nnull\tnone\t2\t10\t0.2\nquote\t"oh\t1\t4\t0.25\n'
    frame, repairs = strengths.load_strengths(write(tmp_path / "s.csv", text), english, "R123")
    assert frame["response"].tolist() == ["null", "nan", "none", '"oh']
    assert frame["cue"].tolist() == ["nothing", "nothing", "null", "quote"]
    assert frame["strength"].tolist() == [0.25, 0.15, 0.2, 0.25] and not any(repairs.values())


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("zipped", [False, True])
def test_chinese_file_in_every_published_dress(tmp_path, chinese, separator, bom, zipped):
    rows = "狗,猫,6,30,0.2\n狗,#Missing,3,30,0.1\n狗,0123456789abcdef0123456789abcdef,2,30,0.07\n狗,骨头,4,30,0.13\n"
    raw = (bom + (CHINESE + rows).replace(",", separator)).replace("\n", "\r\n").encode()
    path = tmp_path / ("s.csv.gz" if zipped else "s.csv")
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    frame, repairs = strengths.load_strengths(path, chinese, "R123")
    assert frame[["response", "count", "n", "rank"]].values.tolist() == [["猫", 6, 25, 1], ["骨头", 4, 25, 2]]
    assert repairs["missing markers dropped"] == 2


def test_identical_rows_are_dropped_and_spellings_merged_and_both_counted(tmp_path, english):
    text = ENGLISH + "dog\tCat\t4\t20\t0.2\ndog\tcat\t6\t20\t0.3\ndog\tbone\t1\t20\t0.05\ndog\tbone\t1\t20\t0.05\n"
    frame, repairs = strengths.load_strengths(write(tmp_path / "s.csv", text), english, "R123")
    assert frame[["response", "count", "rank"]].values.tolist() == [["cat", 10, 1], ["bone", 1, 2]]
    assert repairs == {"identical rows dropped": 1, "missing markers dropped": 0, "spellings merged": 1}


@pytest.mark.parametrize(
    ("counts", "n", "expected", "counted"),
    [  # kid twice and goat once, as in the Edinburgh Associative Thesaurus
        ((5, 3, 2), 10, [["kid", 8, 10], ["goat", 2, 10]], {"identical rows dropped": 0, "rows of one pair summed": 1}),
        ((1, 1, 2), 4, [["goat", 2, 4], ["kid", 2, 4]], {"identical rows dropped": 0, "rows of one pair summed": 1}),
        ((1, 1, 3), 4, [["goat", 3, 4], ["kid", 1, 4]], {"identical rows dropped": 1}),
        ((5, 3, 2), 11, None, "line 3: 'Billy' - 'kid' stands twice with different counts, and .* do not sum to N with both"),
    ],
)
def test_rows_of_one_pair_are_summed_only_where_n_needs_both(tmp_path, english, counts, n, expected, counted):
    rows = zip(("kid", "kid", "goat"), counts, strict=True)
    path = write(
        tmp_path / "eat.csv", "cue\tresponse\tR1\tN\n" + "".join(f"Billy\t{word}\t{count}\t{n}\n" for word, count in rows)
    )
    if expected is None:
        with pytest.raises(DataError, match=counted):
            strengths.load_strengths(path, english, "R1")
        return
    frame, repairs = strengths.load_strengths(path, english, "R1")
    assert frame[["response", "count", "n"]].values.tolist() == expected
    assert repairs == {"missing markers dropped": 0, "spellings merged": 0, **counted}


def test_ties_are_ordered_by_code_points(tmp_path, english):
    text = ENGLISH + "dog\tzebra\t2\t9\t0.2\ndog\tant\t2\t9\t0.2\n"
    frame, _ = strengths.load_strengths(write(tmp_path / "s.csv", text), english, "R123")
    assert frame["response"].tolist() == ["ant", "zebra"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ENGLISH + "dog\tcat\t1\n", ["line 2", "Expected 5 columns, got 3"]),
        (ENGLISH + "dog\tcat\t1\t2\t0.5\textra\tmore\n", ["line 2", "got 7"]),
        (ENGLISH + "dog\tcat\t3\t2\t1.5\n", ["line 2", "above N"]),
        (ENGLISH + "\tcat\t1\t2\t0.5\n", ["line 2", "empty cue"]),
        (ENGLISH + "dog\tcat\t5.7\t20\t0.5\n", ["line 2", "'R123'", "expected a whole number", "'5.7'"]),
        (ENGLISH + "dog\tcat\t1\t2\t0.5\ndog\t#NAME?\t1\t2\t0.5\n", ["line 3", "column response", "'#NAME?'", "spreadsheet"]),
        (ENGLISH + "Mar-02\tcat\t1\t2\t0.5\n", ["line 2", "column cue", "'Mar-02'", "spreadsheet"]),
        (ENGLISH + "cafÃ©\tcat\t1\t2\t0.5\n", ["line 2", "column cue", "'cafÃ©'", "another encoding"]),
        (ENGLISH + "??\tcat\t1\t2\t0.5\n", ["line 2", "column cue", "'??'", "another encoding"]),
        (ENGLISH + "dog\tcat\t1\t9\t0.1\ndog\tbone\t1\t8\t0.1\n", ["line 2", "cue 'dog' has more than one N"]),
        ("", ["empty file"]),
        (ENGLISH.split("\n")[0] + "\n\ndog\tcat\t1\t2\t0.5\n", ["line 2"]),
    ],
)
def test_bad_files_are_one_error_with_the_place(tmp_path, english, text, words):
    path = write(tmp_path / "broken.csv", text)
    with pytest.raises(DataError) as error:
        strengths.load_strengths(path, english, "R123")
    for word in ["broken.csv", *words]:
        assert word in str(error.value)


# Without Latin-1, of which chance makes what other letters look like when they were misread.
letters = st.characters(codec="ascii", categories=["L", "N"]) | st.characters(min_codepoint=0x250, categories=["L", "N"])
words = st.text(letters, min_size=1, max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.tuples(words, words), st.integers(1, 50), min_size=1, max_size=12))
def test_what_is_written_is_read_back(tmp_path, english, table):
    counts: dict[tuple[str, str], int] = {}
    for (cue, response), count in table.items():
        if response in english.missing:
            continue
        key = (cue, english.normalise(response))
        counts[key] = counts.get(key, 0) + count
    text = ENGLISH + "".join(f"{cue}\t{response}\t{count}\t10000\t0\n" for (cue, response), count in table.items())
    frame, _ = strengths.load_strengths(write(tmp_path / "p.csv", text), english, "R123")
    found = {
        (row.cue, english.normalise(row.response)): row.count_ for row in frame.rename(columns={"count": "count_"}).itertuples()
    }
    assert found == counts


BASE = [("dog", "cat", 6, 20), ("dog", "bone", 4, 20), ("null", "nan", 3, 9), ("sun", "moon", 2, 5)]
HARMLESS = {"bom", "crlf", "gzip", "no line break at the end", "comma", "semicolon", "repeated row"}
BREAKS = {
    "lost column", "shifted fields", "latin-1", "zero", "negative", "above n", "not a number", "empty cue",
    "second count", "cut gzip",
}  # fmt: skip


def mutate(kind, row):
    """Bytes of the base file with one thing changed at one row, and whether they are gzipped."""
    rows = [[*map(str, cells), "0"] for cells in BASE]
    cell = {"zero": (2, "0"), "negative": (2, "-4"), "above n": (2, "99"), "not a number": (2, "six"), "empty cue": (0, "")}
    if kind in cell:
        rows[row][cell[kind][0]] = cell[kind][1]
    extra = {"repeated row": rows[row], "second count": [*rows[row][:2], "1", *rows[row][3:]]}
    rows += [extra[kind]] if kind in extra else []
    if kind == "shifted fields":
        rows[row] = ["7", *rows[row]]
    if kind == "latin-1":
        rows[row][1] = "café"
    header = ENGLISH.split()
    if kind == "lost column":
        header, rows = header[:2] + header[3:], [cells[:2] + cells[3:] for cells in rows]
    separator = {"semicolon": ";", "comma": ","}.get(kind, "\t")
    text = "\n".join(separator.join(cells) for cells in [header, *rows]) + ("" if kind.startswith("no line") else "\n")
    text = ("\ufeff" if kind == "bom" else "") + (text.replace("\n", "\r\n") if kind == "crlf" else text)
    raw = text.encode("latin-1" if kind == "latin-1" else "utf-8")
    raw = gzip.compress(raw) if "gzip" in kind else raw
    return (raw[:-9] if kind == "cut gzip" else raw), "gzip" in kind


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(HARMLESS | BREAKS)), st.integers(0, len(BASE) - 1))
def test_a_changed_file_is_refused_with_its_place_or_read_as_before(tmp_path, english, kind, row):
    raw, zipped = mutate(kind, row)
    path = tmp_path / ("norms.csv.gz" if zipped else "norms.csv")
    path.write_bytes(raw)
    if kind in HARMLESS:
        frame, repairs = strengths.load_strengths(path, english, "R123")
        assert frame[["cue", "response", "count", "n"]].values.tolist() == [list(cells) for cells in BASE]
        assert repairs["identical rows dropped"] == (kind == "repeated row")
        return
    with pytest.raises(DataError) as error:
        strengths.load_strengths(path, english, "R123")
    message = str(error.value)
    place = {"cut gzip": "fetch it again", "lost column": "R123", "second count": f"line {len(BASE) + 2}"}
    assert path.name in message and place.get(kind, f"line {row + 2}") in message
    assert len(message) < 600, "one sentence, not the file"


def test_the_sample_strengths_follow_from_its_triples(cfg):
    for name, part in strengths.load_norms(cfg).items():
        rebuilt = strengths.build_strengths(part.trials, cfg.language_of(name), "R123")
        published = part.norms[part.norms["cue"].isin(set(rebuilt["cue"]))].reset_index(drop=True)
        pd.testing.assert_frame_equal(rebuilt, published)


def test_a_strength_file_comes_out_as_a_plain_loop_makes_it(cfg):
    """Content, order, types and index: trained adapters are stored under the hash of this frame."""
    for name in cfg.cultures:
        language, path = (
            cfg.language_of(name),
            textfiles.find_data_file(cfg.data_dir / "swow", cfg.cultures[name].norms.strengths["R123"])[0],
        )
        lines = [re.split("[\t,]", line)[:4] for line in path.read_text().splitlines()[1:]]
        rows = []
        for cue in sorted({line[0] for line in lines}):
            given = sorted((-int(count), word, int(n)) for asked, word, count, n in lines if asked == cue)
            rows += [(cue, word, -count, n, -count / n, rank) for rank, (count, word, n) in enumerate(given, start=1)]
        plain = pd.DataFrame(rows, columns=["cue", "response", "count", "n", "strength", "rank"])
        pd.testing.assert_frame_equal(strengths.load_strengths(path, language, "R123")[0], plain, check_exact=True)


def test_research_files_load_with_their_known_repairs(real_data, english, chinese):
    us, repairs = strengths.load_strengths(real_data / "swow" / "strength.SWOW-EN-US.R123.csv", english, "R123")
    assert us["cue"].nunique() == 881 and repairs["identical rows dropped"] > 0
    zh, _ = strengths.load_strengths(real_data / "swow" / "strength.SWOW-ZH.R123.csv", chinese, "R123")
    assert zh["cue"].nunique() == 881
    path = textfiles.find_data_file(real_data / "swow", ["strength.SWOW-EN.R1.csv"])[0]
    full, _ = strengths.load_strengths(path, english, "R1")
    assert full["cue"].nunique() == 12_217 and {"null", "nan", "none"} <= set(full["response"])
