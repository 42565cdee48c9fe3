"""Delimited text files of others, read strictly: what is wrong is named with its file, line and remedy."""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow

from align_utils.store.steps import note_read

SEPARATORS = {"\t": "TAB", ",": "comma", ";": "semicolon", "|": "bar"}
# Characters of a line that `csv` is given: it refuses a field of twice as many.
LINE = 2**16
# Where the sheets of a spreadsheet end, today's and those of .xls: what lay below is lost when it saves a text file.
SHEETS = (2**20, 2**16)
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
QUOTED = re.compile(r'"(?:[^"\\]|""|\\.)*"')
# What a table's name ends in.
ENDINGS = (".csv", ".tsv", ".txt")


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
    there, barred = _list_folder(folder), never or {}
    fits = [
        path
        for pattern in patterns
        for path in reversed(there)
        if path.is_file() and _fits(path, pattern, endings) and not _bar(path, barred)
    ]
    if fits:
        others = dict.fromkeys(path.name for path in fits if path != fits[0])
        told = "the first in the order of preference, then the last by name"
        return fits[0], f"{fits[0].name} is read, not {', '.join(others)}, which would do too: {told}" if others else ""
    near, far = [], []
    for path in there:
        inside = [one.name for one in _list_folder(path) if any(_fits(one, pattern, endings) for pattern in patterns)]
        # What was meant and is not the table: data.csv.bak, data.zip.
        stems = [re.sub(r"\.\w+$", "", pattern).rstrip("*") for pattern in patterns]
        meant = any(stem and fnmatchcase(path.name.casefold(), f"{stem.casefold()}*") for stem in stems)
        ends = "it ends otherwise: unpack, export or rename the table" if meant and path.is_file() else ""
        reason = f"a folder; move {inside[-1]} out of it" if inside else _bar(path, barred) or ends
        (near if reason else far).append(f"{path.name} ({reason})" if reason else path.name)
    more = f" and {len(far) - 5} more" if len(far) > 5 else ""
    told = {"do not count": ", ".join(near), "of another name": ", ".join(far[:5]) + more}
    parts = [f"{how}: {names}" for how, names in told.items() if names]
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


def _fits(path: Path, pattern: str, endings: Sequence[str]) -> bool:
    plain = path.name.casefold().removesuffix(".gz")
    return fnmatchcase(plain, pattern.casefold()) and (not pattern.endswith("*") or plain.endswith(tuple(endings)))


def _bar(path: Path, never: Mapping[str, str]) -> str:
    return next((why for pattern, why in never.items() if fnmatchcase(path.name.casefold(), pattern.casefold())), "")


def read_header(path: Path, separator: str | None = None) -> list[str]:
    """Column names of a delimited file, stripped (separator and errors as in `read_table`)."""
    return _split_header(path, _read(path, header=True), separators=[separator] if separator else [*SEPARATORS])[0]


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
    header, *rows = _read(path).split("\n")
    while rows and not rows[-1].strip('\t,;|" '):
        rows.pop()
    if len(rows) + 1 in SHEETS:
        raise DataError(
            f"{path}: ends at line {len(rows) + 1:,}, where a spreadsheet's sheet ends, so that rows are missing; take the file as "
            "published, not saved by a spreadsheet"
        )
    names, separator = _split_header(path, header, columns)
    if not rows:
        raise DataError(f"{path}: no row below the header; fetch the file again")
    quoted = separator != "\t" or _is_quoted(path, header, rows)
    # R's write.table marks a quotation mark within a field by a backslash, all others by doubling it.
    bare = [row.replace('\\"', "") for row in rows if '\\"' in row] if quoted else []
    escaped = bool(bare) and not any(row.count('"') % 2 for row in bare)
    odd = next((line for line, row in enumerate(rows, start=2) if row.count('"') % 2), None) if quoted and not escaped else None
    if odd:
        raise DataError(f"{path}, line {odd}: a quotation mark is opened and not closed in its line; fetch the file again")
    # Row names, which R gives no header.
    if header.startswith('"') and re.match(r'"\d+"', rows[0]) and len(_split_line(rows[0], separator)) == len(names) + 1:
        names = ["", *names]
    found = [name.lower() for name in names]
    wanted = {name: str(found.index(name.lower())) for name in [*columns, *optional] if name.lower() in found}
    content = "\n".join(rows).encode()
    every = [str(place) for place in range(len(names))]
    try:
        frame = arrow.read_csv(
            io.BytesIO(content),
            # With threads, or in several blocks, the error would not name the row.
            read_options=arrow.ReadOptions(use_threads=False, block_size=len(content) + 1, column_names=every),
            parse_options=arrow.ParseOptions(
                delimiter=separator, quote_char='"' if quoted else False, escape_char="\\" if escaped else False, ignore_empty_lines=False
            ),
            convert_options=arrow.ConvertOptions(
                include_columns=[*dict.fromkeys(wanted.values())], strings_can_be_null=False, column_types=dict.fromkeys(every, pa.string())
            ),
        ).to_pandas()  # fmt: skip
    except pa.ArrowInvalid as error:
        reason = re.sub(r"Row #(\d+)", lambda row: f"line {int(row[1]) + 1}", " ".join(str(error).split()))
        raise DataError(f"{path}: {reason}; every row needs as many fields as the header: fetch the file again") from error
    frame = pd.DataFrame({name: frame[place].str.strip() for name, place in wanted.items()})
    frame.index = frame.index + 2
    return frame


def read_list(path: Path, *, columns: int, header: bool) -> list[tuple[str, ...]]:
    """A word list of one or two columns, in the order of the file; between TABs it is quoted where every field is.

    A DataError names a line with another number of fields, or what is wrong with the file (as in `read_table`).
    """
    text = _read(path)
    plain = columns == 1 and not header  # one word a line, whatever it holds
    separator = "\t" if plain else next((one for one in SEPARATORS if one in text), ",")
    lines = text.split("\n")
    fields = (field.strip() for line in lines for field in line.split("\t"))
    quoted = separator != "\t" or all(QUOTED.fullmatch(field) for field in fields if field)
    given = enumerate((_split_line(line, separator, quoted=quoted) for line in lines), start=1)
    rows = [(number, row) for number, row in given if any(row)][header:]
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
        # Of a decimal comma: it can mean nothing else.
        if (thousands > high).any() and not texts.str.contains(".", regex=False).any():
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


def _split_line(line: str, separator: str, *, quoted: bool = True) -> list[str]:
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    return [field.strip() for field in next(csv.reader([line[:LINE]], delimiter=separator, quoting=quoting), [])]


def _split_header(
    path: Path, line: str, columns: Sequence[str] = (), *, separators: Sequence[str] = tuple(SEPARATORS)
) -> tuple[list[str], str]:
    """Column names, and the separator with which a header holds most of the columns; a DataError names what is missing or there twice."""
    if not line.strip():
        raise DataError(f"{path}: empty file; fetch it again")
    if "\ufffd" in line:
        raise DataError(f"{path}, line 1: not UTF-8; take the file as published or re-save it as UTF-8")
    splits = {separator: _split_line(line, separator) for separator in separators}
    found = {separator: [name.lower() for name in names] for separator, names in splits.items()}
    wanted = {name.lower(): name for name in columns}
    separator = max(splits, key=lambda one: (len(wanted.keys() & set(found[one])), len(found[one])))
    missing = [name for lower, name in wanted.items() if lower not in found[separator]]
    if missing:
        raise DataError(
            f"{path}, line 1: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} not found; the header, read with "
            f"{SEPARATORS[separator]} as separator, holds: {', '.join(splits[separator])}. Take the file as published, "
            "not re-saved by a spreadsheet"
        )
    twice = [name for lower, name in wanted.items() if found[separator].count(lower) > 1]
    if twice:
        raise DataError(f"{path}, line 1: column {twice[0]} stands twice in the header; keep one")
    return splits[separator], separator


def _is_quoted(path: Path, header: str, rows: list[str]) -> bool:
    """Whether the fields between TABs stand in quotation marks; a DataError where some do and others cannot."""
    marked = [(line, row) for line, row in enumerate(rows, start=2) if '"' in row]
    fields = [(line, field.strip()) for line, row in marked for field in row.split("\t") if '"' in field]
    broken = next(((line, field) for line, field in fields if not QUOTED.fullmatch(field)), None)
    sure = all(QUOTED.fullmatch(name.strip()) for name in header.split("\t") if name.strip())
    sure |= len(marked) == len(rows) and not broken
    sure |= any(re.search(r'""|\\"', field[1:-1]) for _, field in fields if QUOTED.fullmatch(field))
    if sure and broken:
        raise DataError(
            f"{path}, line {broken[0]}: the file stands in quotation marks, but the field {broken[1][:40]} does not close its own; take the "
            "file as published, or write it without quoting"
        )
    return sure


def _read(path: Path, *, header: bool = False) -> str:
    """Text of a plain or gzipped file, or its first line, with line feeds alone."""
    try:
        with path.open("rb") as file:
            zipped = path.suffix == ".gz" or file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as file:
            start = file.peek(4)
            if start.startswith(b"PK\x03\x04"):
                raise DataError(f"{path}: a ZIP archive or a workbook, not text; unpack it, or save its sheet as CSV (UTF-8)")
            encoding = "UTF-16" if start.startswith(UTF_16) else "UTF-8-SIG"
            # Below a header may stand anything.
            with io.TextIOWrapper(file, encoding, "replace" if header else "strict") as lines:
                text = lines.readline(LINE).removesuffix("\n") if header else lines.read()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; data/README.md says where each file comes from") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); a file of text was expected") from error
    except UnicodeDecodeError as error:
        line, kind = error.object[: error.start].count(b"\n") + 1, encoding.removesuffix("-SIG")
        raise DataError(f"{path}, line {line}: not {kind}; take the file as published or re-save it as UTF-8") from error
    if not header:
        note_read(path)
    return text
