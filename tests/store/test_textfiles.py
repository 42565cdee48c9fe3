"""Delimited files of others: what is read, and where a mistake is."""

import csv
import gzip

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from align_utils.store import textfiles
from align_utils.store.steps import READ
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
    READ.clear()
    frame = textfiles.read_table(path, ["response", "cue"], optional=["N", "origin"])
    assert frame.to_dict("index") == {
        2: {"response": "a, b", "cue": "null", "N": "1"}, 3: {"response": "NA", "cue": "nan", "N": "2"},
    }  # fmt: skip
    assert path in READ and textfiles.read_header(path) == ["Cue", "Response", "n"]
    quoted = write('cue\tresponse\ndog\t"cat\n')
    assert textfiles.read_table(quoted, ["response"])["response"].tolist() == ['"cat'], "no quoting between TABs"


TABLE = pd.DataFrame({"cue": ["dog", "null", "café"], "response": ['"oh', "a cat", "x"], "n": ["3", "2", "1"]})
PLAIN = 'cue\tresponse\tn\ndog\t"oh\t3\nnull\ta cat\t2\ncafé\tx\t1\n'
DRESSES = {  # one table as programs write it
    "published": PLAIN,
    "R write.table": '"cue"\t"response"\t"n"\n"1"\t"dog"\t"\\"oh"\t3\n"2"\t"null"\t"a cat"\t2\n"17"\t"café"\t"x"\t1\n',
    "R write.csv": '"","cue","response","n"\n"1","dog","""oh",3\n"2","null","a cat",2\n"3","café","x",1\n',
    "R write.csv2": '"";"cue";"response";"n"\n"1";"dog";"""oh";3\n"2";"null";"a cat";2\n"3";"café";"x";1\n',
    "words quoted, header not": 'cue\tresponse\tn\n"dog"\t"""oh"\t3\n"null"\t"a cat"\t2\n"café"\t"x"\t1\n',
    "pandas": TABLE.to_csv(sep="\t"),
    "pandas, all quoted": TABLE.to_csv(sep="\t", index=False, quoting=csv.QUOTE_ALL),
    "pandas, bar": TABLE.to_csv(sep="|", index=False),
    "SPSS": ("\ufeff" + PLAIN).replace("\n", "\r\n"),
    "Excel, Unicode text": PLAIN.replace("\n", "\r\n").encode("utf-16"),
    "Excel, empty rows at the end": TABLE.to_csv(index=False) + ",,\n,,\n",
    "old Mac": PLAIN.replace("\n", "\r"),
    "gzip without its ending": gzip.compress(PLAIN.encode()),
}


@pytest.mark.parametrize("dress", DRESSES)
def test_what_programs_write_is_one_table(tmp_path, dress):
    path, content = tmp_path / "file.txt", DRESSES[dress]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    frame = textfiles.read_table(path, ["cue", "response", "n"])
    assert frame.to_dict("list") == TABLE.to_dict("list")
    assert frame.index.tolist() == [2, 3, 4]
    assert {"cue", "response", "n"} <= set(textfiles.read_header(path))


def test_quoting_is_seen_in_lists_too(write):
    for text in (
        '"recieve"\t"receive"\n"a\\b"\t"b"\n',
        "recieve\treceive\na\\b\tb\n",
        "recieve,receive\r\na\\b,b\r\n",
        "recieve;receive\ra\\b;b",
    ):
        assert textfiles.read_list(write(text), columns=2, header=False) == [("recieve", "receive"), ("a\\b", "b")]
    assert textfiles.read_list(write('"colour"\n"tyre"\n'), columns=1, header=False) == [("colour",), ("tyre",)]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'"cue"\t"R1"\n"dog"\t"ca"t\n', 'line 2: the file stands in quotation marks, but the field "ca"t does not close its own'),
        (b'cue,R1\ndog,"oh\nsun,x\nmoon,"o\n', "line 2: a quotation mark is opened and not closed in its line"),  # two: no rows are lost
        (b"cue\tR1\ndog\tca\rt\n", "CSV parse error: line 3: Expected 2 columns, got 1: t; every row needs as many fields as the header"),
        ("cue\tR1\ndog\tcat\n".encode("utf-16-le"), "line 1: columns cue, R1 not found; the header, read with TAB"),
        ("cue\tR1\n狗\t猫\n".encode("gb18030"), "line 2: not UTF-8; take the file as published or re-save it as UTF-8"),
        (b"PK\x03\x04" + b"x" * 99, "a ZIP archive or a workbook, not text; unpack it"),
        (b"cue,R1\n", "no row below the header"),
        (b"", "empty file"),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_one_sentence(tmp_path, raw, message):
    (tmp_path / "file.csv").write_bytes(raw)
    with pytest.raises(DataError) as error:
        textfiles.read_table(tmp_path / "file.csv", ["cue", "R1"])
    assert f"file.csv{',' if message.startswith('line') else ':'} {message}" in str(error.value)


def test_a_folder_and_what_a_spreadsheet_cut_are_no_table(write, tmp_path):
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        textfiles.read_table(tmp_path, ["cue"])
    for lines, said in ((2**16, "65,536"), (2**20, "1,048,576")):
        with pytest.raises(DataError, match=f"ends at line {said}, where a spreadsheet's sheet ends"):
            textfiles.read_table(write("cue,R1\n" + "dog,cat\n" * (lines - 1)), ["cue"])


PARTS = [
    "cue",
    "R1",
    "dog",
    "cat",
    '"',
    '""',
    "\\",
    "\t",
    ",",
    ";",
    "|",
    "\n",
    "\r",
    "\r\n",
    "\ufeff",
    "\0",
    "é",
    "1",
    "5.7",
    "NA",
]
texts = st.lists(st.sampled_from(PARTS), max_size=30).map("".join)
files = st.one_of(
    st.binary(max_size=120), texts.map(str.encode), texts.map(lambda text: f"cue\tR1\n{text}".encode()),
    texts.map(lambda text: f'"cue","R1"\n{text}'.encode()), texts.map(lambda text: text.encode("utf-16")),
    texts.map(lambda text: gzip.compress(text.encode())), st.binary(max_size=60).map(lambda raw: b"\x1f\x8b" + raw),
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files, st.sampled_from(["f.csv", "f.csv.gz"]))
def test_whatever_bytes_a_valid_frame_or_one_sentence(tmp_path, raw, name):
    path = tmp_path / name
    path.write_bytes(raw)
    readers = {
        "table": lambda: textfiles.read_table(path, ["cue", "R1"]),
        **{str(how): lambda how=how: textfiles.read_list(path, columns=how[0], header=how[1]) for how in ((1, False), (1, True), (2, False))},
    }  # fmt: skip
    for what, read in readers.items():
        try:
            found = read()
        except DataError as error:
            assert name in str(error)
            continue
        if what == "table":
            assert list(found.columns) == ["cue", "R1"] and found.notna().all(axis=None) and found.index.is_monotonic_increasing
            assert found.map(lambda word: isinstance(word, str)).all(axis=None)
        else:
            assert all(len(row) <= int(what[1]) and all(isinstance(word, str) for word in row) for row in found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('cue,R1\ndog,"cat\nsun,x\n', r"file\.csv, line 2: a quotation mark is opened and not closed"),
        ("cue R1\ndog cat\n", r"line 1: columns? R1, cue not found; the header, read with TAB as separator, holds: cue R1"),
        ("cue,R1,r1\ndog,cat,cat\n", "line 1: column R1 stands twice in the header; keep one"),
    ],
)
def test_a_mistake_has_its_line(write, text, message):
    with pytest.raises(DataError, match=message):
        textfiles.read_table(write(text), ["R1", "cue"])


def test_a_short_row_far_below_has_its_line(write):
    with pytest.raises(DataError, match=r"file\.csv: .*line 300002: Expected 2 columns, got 1"):
        textfiles.read_table(write("cue,R1\n" + "dog,cat\n" * 300_000 + "dog\n"), ["R1", "cue"])


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
    path = write("word;n\nsun;0,5\nmoon;3\n")
    assert textfiles.parse_numbers(textfiles.read_table(path, ["n"]), "n", path, low=0, high=4).tolist() == [0.5, 3]
    with pytest.raises(DataError, match="'0,5'"):  # or five
        textfiles.parse_numbers(textfiles.read_table(path, ["n"]), "n", path, low=0, high=9)
    path = write("n\n3\n5.7\n")
    with pytest.raises(DataError, match=r"line 3, column 'n': expected a whole number from 1 to 9, found '5\.7'"):
        textfiles.parse_numbers(textfiles.read_table(path, ["n"]), "n", path, low=1, high=9, whole=True)
    with pytest.raises(DataError, match=r"line 2: expected 2 fields separated by TAB, found 1: \['the'\]"):
        textfiles.read_list(write("teh\tthe\nthe\n"), columns=2, header=False)


def test_a_packed_file_that_is_empty_or_cut_is_fetched_again(tmp_path):
    (tmp_path / "b.csv.gz").touch()
    with pytest.raises(DataError, match="empty file; fetch it again"):
        textfiles.read_table(tmp_path / "b.csv.gz", ["cue"])
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(PLAIN.encode())[:-9])
    with pytest.raises(DataError, match=r"damaged gzip \(.*\); fetch it again"):
        textfiles.read_table(tmp_path / "b.csv.gz", ["cue"])


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
        *(
            (name, f"{name} (it ends otherwise: unpack, export or rename the table)")
            for name in ("norms.1.csv.zip", "norms.1.xlsx", "norms.1.csv.bak", "norms.1.csv.crdownload", "b.csv.txt")
        ),
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
