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


def find(folder, *names, patterns=("none*", "norms.*", "b.csv"), **options):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    path, note = textfiles.find_data_file(folder, patterns, **options)
    return path and path.name, note


@pytest.mark.parametrize(
    ("names", "found", "aside"),
    [
        (["norms.2018.csv", "b.csv.bak", "norms.2018.csv~", "norms.2018.zip", "norms.2018.rds", "._norms.3.csv"], "norms.2018.csv", ""),
        (["norms.9.csv", "norms.10.csv.gz", "b.csv"], "norms.10.csv.gz", "norms.9.csv, b.csv"),
        (["norms.9.csv", "norms.9.csv.gz"], "norms.9.csv", "norms.9.csv.gz"),
        (["NORMS.1.CSV", "norms.csv/README"], "NORMS.1.CSV", ""),
        (["B.csv", "norms.1.tsv.crdownload"], "B.csv", ""),
    ],
)  # fmt: skip
def test_a_table_is_found_beside_what_is_none_and_what_is_left_aside_is_said(tmp_path, names, found, aside):
    path, note = find(tmp_path, *names)
    assert path == found and (f"{found} is read, not {aside}, which would do too" in note if aside else note == "")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("norms.1.csv.zip", "norms.1.csv.zip (an archive; unpack it)"),
        ("norms.1.xlsx", "norms.1.xlsx (another program's format; take or export the CSV)"),
        ("norms.1.csv.bak", "norms.1.csv.bak (a backup)"),
        ("norms.1.csv.crdownload", "(an unfinished download; fetch it again)"),
        ("b.csv.txt", "b.csv.txt (it ends otherwise; rename it if it is the table)"),
        ("norms/norms.1.csv", "norms (a folder; move norms.1.csv out of it)"),
        ("norms.R123.csv", "norms.R123.csv (of all countries)"),
        ("other.csv", "of another name: other.csv"),
    ],
)
def test_where_none_fits_what_is_there_is_named_and_why_it_does_not_count(tmp_path, name, said):
    path, note = find(tmp_path, name, never={"*.R123.*": "of all countries"})
    assert path is None and said in note


def test_an_empty_folder_and_none_are_said(tmp_path):
    assert "is empty, or no folder" in find(tmp_path)[1] and "is empty, or no folder" in find(tmp_path / "none")[1]
    names = [f"{number}.csv" for number in range(9)]
    assert find(tmp_path, *names)[1] == f"in {tmp_path} of another name: {', '.join(names[:5])} and 4 more"
    assert find(tmp_path, "norms.x.xlsx", endings=[".xlsx"])[0] == "norms.x.xlsx"
