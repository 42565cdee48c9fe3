"""Delimited files of others: what is read, and where a mistake is."""

import pytest

from align_utils.store import textfiles
from align_utils.store.ledger import list_read, open_ledger
from align_utils.store.textfiles import DataError


@pytest.fixture
def write(tmp_path):
    def apply(text, name="file.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return apply


def test_words_stay_words_and_lines_are_those_of_the_file(write):
    path = write('\ufeffCue,  Response ,n\r\nnull,"a, b",1\r\nnan,NA ,2\r\n\r\n'[:-2])
    open_ledger()
    frame = textfiles.read_table(path, ["response", "cue"], optional=["N", "origin"])
    assert frame.to_dict("index") == {
        2: {"response": "a, b", "cue": "null", "N": "1"}, 3: {"response": "NA", "cue": "nan", "N": "2"},
    }  # fmt: skip
    assert path in list_read() and textfiles.read_header(path) == ["Cue", "Response", "n"]
    quoted = write('cue\tresponse\ndog\t"cat\n')
    assert textfiles.read_table(quoted, ["response"])["response"].tolist() == ['"cat'], "no quoting between TABs"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('cue,R1\ndog,"cat\n' + "dog,cat\n" * 300_000, r"file\.csv, line 2: a quotation mark is opened and not closed"),
        ("cue,R1\n" + "dog,cat\n" * 300_000 + "dog\n", r"file\.csv: .*line 300002: Expected 2 columns, got 1"),
        ("cue,R1\ndog,cat\n" + "x" * 2**21 + ",cat\n", r"line 3 has 2,097,156 characters, which no row of this format has"),
        ("cue;R1\ndog;cat\n", r"line 1: columns? R1, cue not found; the header, read with comma as separator, holds: cue;R1"),
        ("cue,R1,r1\ndog,cat,cat\n", "line 1: column R1 stands twice in the header; keep one"),
    ],
)
def test_a_mistake_has_its_line(write, text, message):
    with pytest.raises(DataError, match=message):
        textfiles.read_table(write(text), ["R1", "cue"])


def test_numbers_are_numbers_within_the_range(write):
    path = write("n\n1e2\n0.5\n")
    frame = textfiles.read_table(path, ["n"])
    assert textfiles.parse_numbers(frame, "n", path, low=0, high=100).tolist() == [100, 0.5]
    for text, found in (
        ("n\n1\nx\nnan\n", "line 3, column 'n': expected a number from 0 to 9, found 'x'; 2 such rows"),
        ("n\n10\n", "'10'"),
    ):
        path = write(text)
        with pytest.raises(DataError) as error:
            textfiles.parse_numbers(textfiles.read_table(path, ["n"]), "n", path, low=0, high=9)
        assert found in str(error.value)


def test_word_lists_keep_their_order(write):
    assert textfiles.read_list(write("b, c\n\na\n"), columns=1, header=False) == [("b, c",), ("a",)]
    assert textfiles.read_list(write('word,right\nteh,the\n"a, b",ab\n'), columns=2, header=True) == [
        ("teh", "the"),
        ("a, b", "ab"),
    ]
    with pytest.raises(DataError, match=r"line 2: expected 2 fields separated by TAB, found 1: \['the'\]"):
        textfiles.read_list(write("teh\tthe\nthe\n"), columns=2, header=False)


def test_the_first_pattern_wins_and_of_its_files_the_last(tmp_path):
    for name in ("b.2018.csv", "b.2024.csv.gz", "a.csv"):
        (tmp_path / name).touch()
    assert textfiles.find_file(tmp_path, ["none*", "b.*.csv", "a.csv"]).name == "b.2024.csv.gz"
    assert textfiles.find_file(tmp_path, ["none*"]) is None
    with pytest.raises(DataError, match=r"damaged gzip \(it is empty\); fetch it again"):
        textfiles.read_table(tmp_path / "b.2024.csv.gz", ["cue"])
