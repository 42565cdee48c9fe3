"""Delimited text files of others, read strictly: what is wrong is named with its file, line and remedy."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow


class DataError(ValueError):
    """A data file does not hold what its format promises."""


def find_file(folder: Path, patterns: Sequence[str]) -> Path | None:
    """First file in `folder` that matches the ordered patterns (`.gz` too); several matches of one pattern: the last by name."""
    for pattern in patterns:
        found = sorted({*folder.glob(pattern), *folder.glob(f"{pattern}.gz")})
        if found:
            return found[-1]
    return None


def read_table(path: Path, columns: Sequence[str], *, optional: Sequence[str] = ()) -> pd.DataFrame:
    """Read a TAB- or comma-separated file as text, by column names in any case.

    TAB files are read without quoting (Small World of Words never quotes them); `null`, `nan` and `none` stay words.

    Parameters
    ----------
    path : Path
        Plain or `.gz`; UTF-8, with or without a byte-order mark.
    columns, optional : sequence of str
        Columns that must, or may, be there; the result has them under these names.

    Returns
    -------
    DataFrame
        Text columns, stripped; the index is the line number in the file (header = 1).

    Raises
    ------
    DataError
        Missing or damaged file, another encoding, a missing column, a row with too few or too many fields.

    Source
    ------
    Small World of Words file formats (De Deyne et al. 2019; Li et al. 2024).
    """
    text = _read_text(path)
    header = text.split("\n", 1)[0].rstrip("\r")
    tab = "\t" in header
    try:
        frame = arrow.read_csv(
            io.BytesIO(text.rstrip("\r\n").encode()),
            read_options=arrow.ReadOptions(use_threads=False),  # with threads the error would not name the row
            parse_options=arrow.ParseOptions(
                delimiter="\t" if tab else ",", quote_char=False if tab else '"', ignore_empty_lines=False
            ),
            convert_options=arrow.ConvertOptions(
                column_types=dict.fromkeys(next(csv.reader([header], delimiter="\t" if tab else ",")), pa.string()),
                strings_can_be_null=False,
            ),
        ).to_pandas()  # fmt: skip
    except (pa.ArrowInvalid, StopIteration) as error:
        reason = re.sub(r"Row #(\d+)", r"line \1", " ".join(str(error).split())) or "empty file"
        if "straddling" in reason:  # a row longer than arrow's block of a megabyte
            size, line = max((len(row), -number) for number, row in enumerate(text.split("\n"), start=1))
            reason = f"line {-line} has {size:,} characters, which no row of this format has"
        raise DataError(f"{path}: {reason}; every row needs as many fields as the header: fetch the file again") from error
    lower = {str(name).strip().lower(): name for name in frame.columns}
    missing = [name for name in columns if name.lower() not in lower]
    if missing:
        seen = ", ".join(map(str, frame.columns))
        raise DataError(
            f"{path}, line 1: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} not found; the header, read with "
            f"{'TAB' if tab else 'comma'} as separator, holds: {seen}. Take the file as published, not re-saved by a spreadsheet"
        )
    wanted = {lower[name.lower()]: name for name in [*columns, *optional] if name.lower() in lower}
    frame = frame[list(wanted)].rename(columns=wanted)
    frame.index = frame.index + 2
    return frame.apply(lambda column: column.str.strip())


def parse_numbers(frame: pd.DataFrame, column: str, path: Path, *, low: float, high: float) -> pd.Series:
    """Turn a text column into numbers within [low, high].

    Raises
    ------
    DataError
        A value is not a number or is out of range; names the line and the value.
    """
    numbers = pd.to_numeric(frame[column], errors="coerce")
    bad = frame.index[~numbers.between(low, high)]
    if len(bad):
        raise DataError(
            f"{path}, line {bad[0]}, column '{column}': expected a number from {low:g} to {high:g}, "
            f"found {frame.loc[bad[0], column]!r}; {len(bad)} such row{'s' if len(bad) > 1 else ''}"
        )
    return numbers


def _read_text(path: Path) -> str:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return raw.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; data/README.md says where each file comes from") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip ({error}); fetch it again") from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8; take the file as published or re-save it as UTF-8") from error
