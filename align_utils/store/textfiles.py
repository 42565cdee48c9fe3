"""Delimited text files of others, read strictly: what is wrong is named with its file, line and remedy."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow

from align_utils.store.ledger import note_read

SEPARATORS = {"\t": "TAB", ",": "comma", ";": "semicolon"}
# More bytes than a row can have.
MOST = 2**20
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


def find_file(folder: Path, patterns: Sequence[str]) -> Path | None:
    """First file in `folder` that matches the ordered patterns (`.gz` too); several matches of one pattern: the last by name."""
    for pattern in patterns:
        if found := sorted({*folder.glob(pattern), *folder.glob(f"{pattern}.gz")}):
            return found[-1]
    return None


def find_data_file(
    folder: Path, patterns: Sequence[str], *, endings: Sequence[str] = ENDINGS, never: Mapping[str, str] | None = None
) -> tuple[Path | None, str]:
    """The file of a folder that fits the first of the ordered patterns, and what to say of it.

    Parameters
    ----------
    patterns : sequence of str
        Names in any case, each also with `.gz`; one that ends in `*` takes the endings of `endings` alone. Folders, hidden files, backups
        and archives fit none. Several files of one pattern: the last by name, numbers compared as numbers.
    endings : sequence of str
        Default `.csv`, `.tsv`, `.txt`.
    never : dict, optional
        Pattern of a file that is not meant, though it may fit: why.

    Returns
    -------
    path : Path or None
    note : str
        With a path: which other files fit and why this one is read ('' where none does). Without: what is there, and why it does not count.
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
    return [name.strip() for name in _split(_read(path, lines=1), separator)[0]]


def read_table(
    path: Path, columns: Sequence[str], *, optional: Sequence[str] = (), separator: str | None = None
) -> pd.DataFrame:
    """Read a TAB- or comma-separated file as text, by column names in any case.

    TAB files are read without quoting (Small World of Words never quotes them); `null`, `nan` and `none` stay words.

    Parameters
    ----------
    path : Path
        Plain or `.gz`; UTF-8, with or without a byte-order mark.
    columns, optional : sequence of str
        Columns that must, or may, be there; the result has them under these names.
    separator : str, optional
        Where the header cannot tell it; default TAB if the header holds one, else comma.

    Returns
    -------
    DataFrame
        Text columns, stripped; the index is the line number in the file (header = 1).

    Raises
    ------
    DataError
        Missing or damaged file, another encoding, a column that is missing or there twice, a row with too few or too many fields.
    """
    raw = _read(path).rstrip(b"\r\n")
    names, separator = _split(raw, separator)
    found = [name.strip().lower() for name in names]
    if raw:
        _require_columns(path, columns, names, separator)
    wanted = {name: names[found.index(name.lower())] for name in [*columns, *optional] if name.lower() in found}
    _require_rows(path, raw.split(b"\n"), quoted=separator != "\t")
    try:
        frame = arrow.read_csv(
            io.BytesIO(raw),
            # With threads, or in several blocks, the error would not name the row.
            read_options=arrow.ReadOptions(use_threads=False, block_size=len(raw) + 1),
            parse_options=arrow.ParseOptions(
                delimiter=separator, quote_char=False if separator == "\t" else '"', ignore_empty_lines=False
            ),
            convert_options=arrow.ConvertOptions(
                include_columns=[*dict.fromkeys(wanted.values())], column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=False,
            ),
        ).to_pandas()  # fmt: skip
    except pa.ArrowInvalid as error:
        reason = re.sub(r"Row #(\d+)", r"line \1", " ".join(str(error).split())) or "empty file"
        raise DataError(f"{path}: {reason}; every row needs as many fields as the header: fetch the file again") from error
    frame = pd.DataFrame({name: frame[column].str.strip() for name, column in wanted.items()})
    frame.index = frame.index + 2
    return frame


def read_list(path: Path, *, columns: int, header: bool) -> list[tuple[str, ...]]:
    """A word list of one or two columns (TAB without quoting, or comma), in the order of the file.

    A DataError names a line with another number of fields, or what is wrong with the file (as in `read_table`).
    """
    text = _read(path).decode()
    separator = "\t" if "\t" in text else ","
    if columns == 1 and not header:
        rows = [[line] for line in text.splitlines()]
    else:
        quoting = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
        rows = csv.reader(io.StringIO(text), delimiter=separator, quoting=quoting)
    stripped = ([field.strip() for field in row] for row in rows)
    rows = [(number, row) for number, row in enumerate(stripped, start=1) if any(row)][header:]
    for number, row in rows:
        if len(row) < columns or (columns == 2 and len(row) > 2):
            raise DataError(
                f"{path}, line {number}: expected {columns} field{'s' if columns > 1 else ''} separated by "
                f"{SEPARATORS[separator]}, found {len(row)}: {row}; take the list as published"
            )
    return [tuple(row[:columns]) for _, row in rows]


def parse_numbers(frame: pd.DataFrame, column: str, path: Path, *, low: float, high: float) -> pd.Series:
    """A text column as numbers; a DataError names the line and the value of what is none within [low, high]."""
    try:
        numbers = pd.Series(pc.cast(pa.array(frame[column]), pa.float64()).to_numpy(zero_copy_only=False), frame.index)
    except pa.ArrowInvalid:  # slower, and finds which
        numbers = pd.to_numeric(frame[column], errors="coerce")
    bad = frame.index[~numbers.between(low, high)]
    if len(bad):
        raise DataError(
            f"{path}, line {bad[0]}, column '{column}': expected a number from {low:g} to {high:g}, "
            f"found {frame.loc[bad[0], column]!r}; {len(bad)} such row{'s' if len(bad) > 1 else ''}"
        )
    return numbers


def _split(raw: bytes, separator: str | None) -> tuple[list[str], str]:
    """Fields of the first line, and the separator that it is read with."""
    line = raw.split(b"\n", 1)[0].decode().rstrip("\r")
    separator = separator or ("\t" if "\t" in line else ",")
    return next(csv.reader([line], delimiter=separator), [""]), separator


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


def _require_rows(path: Path, rows: list[bytes], *, quoted: bool) -> None:
    """What the parser would take: a row without an end, and a quotation mark that makes one field of all that follows."""
    longest = max(rows, key=len)
    if len(longest) > MOST:
        raise DataError(
            f"{path}: line {rows.index(longest) + 1} has {len(longest):,} characters, which no row of this format has: "
            "fetch the file again"
        )
    odd = [line for line, row in enumerate(rows, start=1) if row.count(b'"') % 2] if quoted else []
    if len(odd) % 2:
        raise DataError(f"{path}, line {odd[0]}: a quotation mark is opened and not closed; fetch the file again")


def _read(path: Path, lines: int | None = None) -> bytes:
    """Content of a plain or gzipped file, or its first lines: UTF-8 without a byte-order mark."""
    try:
        if path.suffix == ".gz" and path.stat().st_size == 0:
            raise EOFError("it is empty")
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read() if lines is None else b"".join(islice(file, lines))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; data/README.md says where each file comes from") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip ({error}); fetch it again") from error
    if lines is None:
        note_read(path)
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8; take the file as published or re-save it as UTF-8") from error
    return raw
