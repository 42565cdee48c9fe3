"""Delimited text files of others, read strictly: what is wrong is named with its file, line and remedy."""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow

from align_utils.store.steps import note_read

SEPARATORS = {"\t": "TAB", ",": "comma", ";": "semicolon", "|": "bar"}
# More bytes than a row can have, and enough for a header.
MOST, HEAD = 2**20, 2**16
# Where the sheets of a spreadsheet end, today's and those of .xls: what lay below is lost when it saves a text file.
SHEETS = (2**20, 2**16)
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
QUOTED = re.compile(rb'"(?:[^"\\]|""|\\.)*"')
# What a table's name ends in, and what else lies beside it in people's folders.
ENDINGS = (".csv", ".tsv", ".txt")
UNREAD = {
    (".zip", ".7z", ".rar", ".tar", ".tgz", ".bz2", ".xz"): "an archive; unpack it",
    (".crdownload", ".part", ".partial", ".download", ".tmp"): "an unfinished download; fetch it again",
    (".bak", "~", ".old", ".orig", ".swp"): "a backup",
    (".sav", ".zsav", ".por", ".dta", ".rds", ".rda", ".rdata", ".sas7bdat", ".xls", ".xlsx", ".ods", ".parquet"): (
        "another program's format; take or export the CSV"
    ),
}


class DataError(ValueError):
    """A data file does not hold what its format promises."""


def find_data_file(
    folder: Path, patterns: Sequence[str], *, endings: Sequence[str] = ENDINGS, never: Mapping[str, str] | None = None
) -> tuple[Path | None, str]:
    """The file of a folder that fits the first of the ordered patterns, or None, and what to say of it.

    `patterns` are names in any case, each also with `.gz`; one that ends in `*` takes the endings of `endings` alone. Folders,
    hidden files, backups and archives fit none. Several files of one pattern: the last by name, numbers compared as numbers.
    `never`: pattern of a file that is not meant, though it may fit, to the reason. With a path the note says which other files
    fit and why this one is read ('' where none does); without, what is there, and why it does not count.
    """
    there, judge = _list_folder(folder), partial(_judge_file, patterns=patterns, endings=tuple(endings), never=never or {})
    fits = [[path for path in there if judge(path, patterns=[pattern]) == ""] for pattern in patterns]
    path = next((found[-1] for found in fits if found), None)
    if path:
        others = dict.fromkeys(one.name for found in fits for one in found if one != path)
        told = "the first in the order of preference, then the last by name"
        return path, f"{path.name} is read, not {', '.join(others)}, which would do too: {told}" if others else ""
    reasons = {one.name: judge(one) for one in there}
    near = [f"{name} ({reason})" for name, reason in reasons.items() if reason]
    far = [name for name, reason in reasons.items() if reason is None]
    more = f" and {len(far) - 5} more" if len(far) > 5 else ""
    parts = [f"do not count: {', '.join(near)}"] * bool(near) + [f"of another name: {', '.join(far[:5])}{more}"] * bool(far)
    return None, f"in {folder} {'; '.join(parts)}" if parts else f"{folder} is empty, or no folder that can be read"


def find_optional(folder: Path, name: str) -> Path | None:
    """A table that the reader may give, if it is there; DataError where only what looks like it is, which would be passed over in silence."""
    path, told = find_data_file(folder, [name])
    if path is None and " do not count: " in told:
        raise DataError(f"{folder / name}: not there, but {told}. Bring it under this name, or take it away")
    return path


def _list_folder(folder: Path) -> list[Path]:
    """Its files and folders but hidden ones and Excel's locks: by name, numbers as numbers, a file behind its packed copy."""

    def order(path: Path) -> tuple:
        parts = re.split(r"(\d+)", path.name.casefold().removesuffix(".gz"))
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.suffix != ".gz", path.name

    try:
        return sorted((path for path in folder.iterdir() if not path.name.startswith((".", "~$"))), key=order)
    except OSError:
        return []


def _judge_file(path: Path, *, patterns: Sequence[str], endings: tuple[str, ...], never: Mapping[str, str]) -> str | None:
    """Why a file fits none of the patterns: '' where it does fit, None where its name is another one altogether."""
    name = path.name.casefold()
    if path.is_dir():
        inside = (one.name for one in _list_folder(path) if one.is_file())
        fits = [one for one in inside if _judge_file(Path(one), patterns=patterns, endings=endings, never=never) == ""]
        return f"a folder; move {fits[-1]} out of it" if fits else None
    if why := next((why for pattern, why in never.items() if fnmatchcase(name, pattern.casefold())), ""):
        return why
    plain = name.removesuffix(".gz")
    for pattern in map(str.casefold, patterns):
        if fnmatchcase(plain, pattern) and (not pattern.endswith("*") or plain.endswith(endings)):
            return ""
    # What was meant and is not the table: data.csv.bak, data.zip.
    stems = [re.sub(r"\.\w+$", "", pattern.casefold()).rstrip("*") for pattern in patterns]
    if not any(stem and fnmatchcase(plain, f"{stem}*") for stem in stems):
        return None
    return next((why for ends, why in UNREAD.items() if name.endswith(ends)), "it ends otherwise; rename it if it is the table")


def read_header(path: Path, separator: str | None = None) -> list[str]:
    """Column names of a delimited file, stripped (separator and errors as in `read_table`)."""
    return [name.strip() for name in _split(path, _read(path, head=True).split(b"\n"), separator)[0]]


def read_table(path: Path, columns: Sequence[str], *, optional: Sequence[str] = ()) -> pd.DataFrame:
    """Read a delimited file as text, by column names in any case, as R, pandas, SPSS and spreadsheets write them.

    Plain or gzip; UTF-8 with or without a byte-order mark, or UTF-16 with one; line ends of any system; separated by TAB,
    comma, semicolon or bar, the one with which the header holds the columns. Fields between TABs stand as they are (Small World
    of Words never quotes them) unless the file itself is quoted: its header, every row, or quotation marks doubled within
    quoted fields. `null`, `nan` and `none` stay words. Row names of R and empty rows at the end are left out.

    Returns the `columns`, and those of `optional` that are there, under these names: text, stripped; the index is the line
    number in the file (header = 1). DataError: a missing or damaged file, another encoding, a column that is missing or there
    twice, a row with too few or too many fields, a quotation mark that is not closed, a file that ends where a spreadsheet's
    sheet ends.
    """
    rows = _read(path).split(b"\n")
    while rows and not rows[-1].strip(b'\t,;|" \x1a'):
        rows.pop()
    longest = max(rows, key=len, default=b"")
    if len(longest) > MOST:
        raise DataError(
            f"{path}: line {rows.index(longest) + 1} has {len(longest):,} characters, which no row of this format has: "
            "fetch the file again"
        )
    if len(rows) in SHEETS:
        raise DataError(
            f"{path}: ends at line {len(rows):,}, where a spreadsheet's sheet ends, so that rows are missing; take the file as published, "
            "not saved by a spreadsheet"
        )
    lines = len(rows)
    names, separator, rows = _split(path, rows, None, columns)
    _require_columns(path, columns, names, separator)
    first = lines - len(rows) + 2  # line of the first row below the header
    header, rows = rows[0], rows[1:]
    quoted = separator != "\t" or _is_quoted(path, header, rows, first)
    odd = [line for line, row in enumerate(rows, start=first) if row.count(b'"') % 2] if quoted else []
    # R's write.table marks a quotation mark within a field by a backslash, all others by doubling it.
    bare = [row.replace(b'\\"', b"") for row in rows if b'\\"' in row] if quoted else []
    escaped = bool(bare) and not any(row.count(b'"') % 2 for row in bare)
    if odd and not escaped:
        raise DataError(f"{path}, line {odd[0]}: a quotation mark is opened and not closed in its line; fetch the file again")
    if header.startswith(b'"') and rows and all(re.match(rb'"\d+"', row) for row in rows):  # row names, which R gives no header
        few = [name for name in names if name]
        if rows[0].count(separator.encode()) == len(few) == len(names):
            names = ["", *names]
    found = [name.strip().lower() for name in names]
    wanted = {name: str(found.index(name.lower())) for name in [*columns, *optional] if name.lower() in found}
    if not rows:
        raise DataError(f"{path}: no row below the header; fetch the file again")
    try:
        frame = arrow.read_csv(
            io.BytesIO(b"\n".join(rows)),
            # With threads, or in several blocks, the error would not name the row.
            read_options=arrow.ReadOptions(
                use_threads=False, block_size=sum(map(len, rows)) + len(rows) + 1, column_names=[*map(str, range(len(names)))]
            ),
            parse_options=arrow.ParseOptions(
                delimiter=separator, quote_char='"' if quoted else False, escape_char="\\" if escaped else False, ignore_empty_lines=False
            ),
            convert_options=arrow.ConvertOptions(
                include_columns=[*dict.fromkeys(wanted.values())], strings_can_be_null=False,
                column_types={str(place): pa.string() for place in range(len(names))},
            ),
        ).to_pandas()  # fmt: skip
    except pa.ArrowInvalid as error:
        reason = re.sub(r"Row #(\d+)", lambda row: f"line {int(row[1]) + first - 1}", " ".join(str(error).split()))
        raise DataError(f"{path}: {reason}; every row needs as many fields as the header: fetch the file again") from error
    frame = pd.DataFrame({name: frame[place].str.strip() for name, place in wanted.items()})
    frame.index = frame.index + first
    return frame


def read_list(path: Path, *, columns: int, header: bool) -> list[tuple[str, ...]]:
    """A word list of one or two columns, in the order of the file; between TABs it is quoted where every field is.

    A DataError names a line with another number of fields, or what is wrong with the file (as in `read_table`).
    """
    raw = _read(path)
    plain = columns == 1 and not header  # one word a line, whatever it holds
    separator = "\t" if plain else next((one for one in SEPARATORS if one.encode() in raw), ",")
    lines = raw.split(b"\n")
    fields = (field.strip() for line in lines for field in line.split(b"\t"))
    quoted = separator != "\t" or all(QUOTED.fullmatch(field) for field in fields if field)
    texts = [line.decode() for line in lines]
    try:
        given = [[text] for text in texts]
        if not plain or quoted:
            quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
            given = [next(csv.reader([text], delimiter=separator, quoting=quoting), []) for text in texts]
    except csv.Error as error:
        raise DataError(f"{path}: {error}; take the list as published") from error
    stripped = ([field.strip() for field in row] for row in given)
    rows = [(number, row) for number, row in enumerate(stripped, start=1) if any(row)][header:]
    for number, row in rows:
        if len(row) < columns or (columns == 2 and len(row) > 2):
            raise DataError(
                f"{path}, line {number}: expected {columns} field{'s' if columns > 1 else ''} separated by "
                f"{SEPARATORS[separator]}, found {len(row)}: {row}; take the list as published"
            )
    return [tuple(row[:columns]) for _, row in rows]


def parse_numbers(frame: pd.DataFrame, column: str, path: Path, *, low: float, high: float, whole: bool = False) -> pd.Series:
    """A text column as numbers, `whole` ones as integers; a DataError names the line and the value of what is none within [low, high]."""
    try:
        numbers = pd.Series(pc.cast(pa.array(frame[column]), pa.float64()).to_numpy(zero_copy_only=False), frame.index)
    except pa.ArrowInvalid:  # slower, and finds which
        texts = frame[column]
        thousands = pd.to_numeric(texts.str.replace(",", ""), errors="coerce")
        if (thousands > high).any() and not texts.str.contains(
            ".", regex=False
        ).any():  # a decimal comma: it can mean nothing else
            texts = texts.str.replace(",", ".")
        numbers = pd.to_numeric(texts, errors="coerce")
    bad = frame.index[~numbers.between(low, high) | (whole & (numbers % 1 != 0))]
    if len(bad):
        raise DataError(
            f"{path}, line {bad[0]}, column '{column}': expected a {'whole ' * whole}number from {low:g} to {high:g}, "
            f"found {frame.loc[bad[0], column]!r}; {len(bad)} such row{'s' if len(bad) > 1 else ''}: take the file as published"
        )
    return numbers.astype(int) if whole else numbers


def refuse(path: Path, frame: pd.DataFrame, wrong: pd.Series, said: str) -> None:
    """DataError at the first line of a table for which something is wrong; `said` may name the row's columns in braces."""
    if wrong.any():
        line = frame.index[wrong][0]
        more = f" ({wrong.sum()} such rows)" if wrong.sum() > 1 else ""
        raise DataError(f"{path}, line {line}: {said.format(**frame.loc[line])}{more}")


def _split(
    path: Path, rows: list[bytes], separator: str | None, columns: Sequence[str] = ()
) -> tuple[list[str], str, list[bytes]]:
    """Column names, the separator they are read with, and the rows from the header on; Excel's own first line (`sep=;`) is obeyed."""
    told = re.fullmatch(rb'"?sep=(.)"?', rows[0]) if rows else None
    if told:
        separator, rows = told[1].decode("latin-1"), rows[1:]
    if not rows:
        raise DataError(f"{path}: empty file; fetch it again")
    try:
        kinds = [separator] if separator else [*SEPARATORS]
        splits = {kind: next(csv.reader([rows[0].decode()], delimiter=kind), [""]) for kind in kinds}
    except (csv.Error, ValueError, TypeError) as error:
        raise DataError(f"{path}, line 1: no header of a text table ({error}); take the file as published") from error
    wanted = {name.lower() for name in columns}
    separator = max(splits, key=lambda kind: (len(wanted & {name.strip().lower() for name in splits[kind]}), len(splits[kind])))
    return splits[separator], separator, rows


def _is_quoted(path: Path, header: bytes, rows: list[bytes], first: int) -> bool:
    """Whether the fields between TABs stand in quotation marks; a DataError where some do and others cannot."""
    marked = [(line, row.split(b"\t")) for line, row in enumerate(rows, start=first) if b'"' in row]
    fields = [(line, field.strip()) for line, row in marked for field in row if b'"' in field]
    broken = [(line, field) for line, field in fields if not QUOTED.fullmatch(field)]
    named = [field for field in header.split(b"\t") if field.strip()]
    sure = bool(named) and all(QUOTED.fullmatch(field.strip()) for field in named)
    sure |= len(marked) == len(rows) > 0 and not broken
    sure |= any(re.search(rb'""|\\"', field[1:-1]) for _, field in fields if QUOTED.fullmatch(field))
    if sure and broken:
        line, field = broken[0]
        raise DataError(
            f"{path}, line {line}: the file stands in quotation marks, but the field {field.decode()[:40]} does not close its own; take the file "
            "as published, or write it without quoting"
        )
    return sure


def _require_columns(path: Path, columns: Sequence[str], names: list[str], separator: str) -> None:
    found = [name.strip().lower() for name in names]
    missing = [name for name in columns if name.lower() not in found]
    if missing:
        raise DataError(
            f"{path}, line 1: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} not found; the header, read with "
            f"{SEPARATORS.get(separator, repr(separator))} as separator, holds: {', '.join(names)}. Take the file as published, "
            "not re-saved by a spreadsheet"
        )
    twice = [name for name in columns if found.count(name.lower()) > 1]
    if twice:
        raise DataError(f"{path}, line 1: column {twice[0]} stands twice in the header; keep one")


def _read(path: Path, *, head: bool = False) -> bytes:
    """Content of a plain or gzipped text file, or its beginning, as UTF-8 with line feeds alone."""
    try:
        with path.open("rb") as file:
            zipped = path.suffix == ".gz" or file.read(2) == b"\x1f\x8b"
        if zipped and path.stat().st_size == 0:
            raise EOFError("it is empty")
        with gzip.open(path) if zipped else path.open("rb") as file:
            raw = file.read(HEAD if head else -1)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; data/README.md says where each file comes from") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); a file of text was expected") from error
    if not head:
        note_read(path)
    elif raw[:2] not in UTF_16:
        raw = b"\n".join(re.split(rb"\r\r\n|\r\n|\n|\r", raw)[: 1 + (b"sep=" in raw[:8])])  # below may stand anything
    if raw.startswith(b"PK\x03\x04"):
        raise DataError(f"{path}: a ZIP archive or a workbook, not text; unpack it, or save its sheet as CSV (UTF-8)")
    wide = raw[:2] in UTF_16
    try:
        text = codecs.getincrementaldecoder("utf-16" if wide else "utf-8")().decode(raw, final=not head)
    except UnicodeDecodeError as error:
        line, kind = raw[: error.start].count(b"\n") + 1, "UTF-16" if wide else "UTF-8"
        raise DataError(f"{path}, line {line}: not {kind}; take the file as published or re-save it as UTF-8") from error
    raw = (text.encode(errors="surrogatepass") if wide else raw).removeprefix(codecs.BOM_UTF8)
    if b"\r" in raw:
        raw = raw.replace(b"\r\r\n", b"\n").replace(b"\r\n", b"\n")
        if b"\n" not in raw:
            raw = raw.replace(b"\r", b"\n")
    for mark, what in ((b"\r", "a carriage return within a line"), (b"\0", "a NUL byte, which no text has")):
        if mark in raw:
            line = raw[: raw.index(mark)].count(b"\n") + 1
            raise DataError(f"{path}, line {line}: {what}; take the file as published or re-save it as UTF-8")
    return raw
