"""Respondents of the World Values Survey, wave 7: the cross-national CSV of any release, or one CSV a country."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow

from align_utils.store.ledger import note_read
from align_utils.store.textfiles import SEPARATORS, DataError, read_header
from align_utils.survey.items import read_label

COUNTRY, WEIGHT, NUMBER, UNIT = "B_COUNTRY_ALPHA", "W_WEIGHT", "D_INTERVIEW", "I_PSU"
# Columns of the joint EVS/WVS and the trend files alone.
JOINT = {"CNTRY_AN", "GWGHT", "S002VS", "S020", "F120", "E035"}
# With fewer primary sampling units than this their bootstrap says little, and respondents are drawn instead.
FEWEST_UNITS = 20
BLOCK = 4 << 20  # bytes read at a time: rows of other countries are gone before the next block comes


class Respondents(NamedTuple):
    """People with a weight and their answers.

    Attributes
    ----------
    answers : DataFrame
        `country` (as in the file), `weight` (above 0), `unit` (number of what a bootstrap draws: a primary sampling unit or the
        respondent), and a column a question with the file's codes; missing codes (below 0) are NaN.
    units : dict
        Country: what `unit` numbers there, in words.
    repairs : list of str
        What was put right or left out, counted.
    refused : dict
        Question: why its answers cannot be read.
    """

    answers: pd.DataFrame
    units: dict[str, str]
    repairs: list[str]
    refused: dict[str, str]


def read_respondents(
    paths: Sequence[Path], countries: Mapping[str, str], questions: Sequence[str], labels: Mapping[str, dict]
) -> Respondents:
    """Read the answers of some countries, and of each file only the columns needed.

    Parameters
    ----------
    paths : sequence of Path
        The cross-national file, or one file a country; comma, semicolon or TAB; plain or `.gz`.
    countries : dict
        Code in `B_COUNTRY_ALPHA`: the country's name in the name of a one-country file. Empty: all of the cross-national file.
    questions : sequence of str
        Wave-7 numbers; those that no file holds are left out.
    labels : dict
        Question: folded label to code (`items.read_options`), for files that hold labels in place of codes; may be empty.
    """
    parts, notes, unread, seen = zip(*(_read_people(path, countries, questions, labels) for path in paths), strict=True)
    frame = pd.concat(parts, ignore_index=True)
    refused = {question: why for part in unread for question, why in part.items()}
    for country, name in (countries or {country: country for part in seen for country in part}).items():
        if not (frame["country"] == country).any():
            raise DataError(
                f"{', '.join(map(str, paths))}: no respondent of {country} with a weight. Expected its code in {COUNTRY} of the "
                f"cross-national file, or a file of its own named ..._Wave_7_{name.replace(' ', '_')}_..."
            )
    unit, units = np.zeros(len(frame), dtype=int), {}
    for country, part in frame.groupby("country", sort=False):
        unit[part.index], units[country] = _number_units(part[UNIT] if UNIT in frame else None, len(part))
    kept = [question for question in questions if question in frame and question not in refused]
    answers = pd.concat([frame[["country", "weight"]], pd.Series(unit, name="unit"), frame[kept]], axis=1)
    return Respondents(answers, units, [note for part in notes for note in part], refused)


def count_answers(people: Respondents, items: pd.DataFrame) -> pd.DataFrame:
    """Weighted shares of every answer to the items; the codes that an item drops count as missing.

    Returns
    -------
    DataFrame
        `question, country, answer` (the file's code), `share`, `n` (respondents with an answer), `n_effective`.
    """
    rows = []
    for country, part in people.answers.groupby("country", sort=False):
        weights = part["weight"].to_numpy()
        for item in items[items["question"].isin(part.columns)].itertuples():
            given = part[item.question].to_numpy()
            valid = ~np.isnan(given) & ~np.isin(given, item.drop)
            answers, places = np.unique(given[valid].astype(int), return_inverse=True)
            own = weights[valid]
            shares = np.bincount(places, own, minlength=len(answers)) / own.sum()
            sizes = (float(len(own)), measure_effective(own))
            rows += [
                (item.question, country, answer, share, *sizes) for answer, share in zip(answers.tolist(), shares, strict=True)
            ]
    return pd.DataFrame(rows, columns=["question", "country", "answer", "share", "n", "n_effective"])


def measure_effective(weights: Sequence[float]) -> float:
    """Kish's effective n (1965, section 11.7): how many equally weighted respondents would say as much; NaN for none.

    Examples
    --------
    >>> measure_effective([2.0, 2.0, 2.0]), measure_effective([3.0, 1.0])
    (3.0, 1.6)
    """
    weights = np.asarray(weights, dtype=float)
    return float(weights.sum() ** 2 / (weights**2).sum()) if weights.size else float("nan")


def _read_people(path: Path, countries: Mapping[str, str], questions: Sequence[str], labels: Mapping[str, dict]):
    """Respondents of one file with what was repaired, which questions cannot be read and which countries it has."""
    headers = {separator: read_header(path, separator) for separator in SEPARATORS}
    separator, header = max(headers.items(), key=lambda one: len(one[1]))
    if len(header) < 3:
        raise DataError(
            f"{path}, line 1: one column, read with {', '.join(SEPARATORS.values())} as separator: {header}. Expected {COUNTRY}, "
            f"{WEIGHT} and Q1 ...: take the CSV as published"
        )
    names = _find_columns(path, header, questions)
    found = [question for question in questions if question in names]
    # In the files of one country the question's wording follows its number.
    is_text = any(names[question] != question and " " in names[question] for question in found)
    keys = [key for key in (COUNTRY, WEIGHT, NUMBER, UNIT) if key in names] + found
    texts = {COUNTRY, NUMBER, UNIT, *(found if is_text else [])}
    frame = _stream(path, separator, header, {key: names[key] for key in keys}, texts, list(countries))
    if COUNTRY in frame:
        frame = frame.rename(columns={COUNTRY: "country"})
    else:
        named = [code for code, name in countries.items() if name.replace(" ", "_").casefold() in path.name.casefold()]
        if len(named) != 1:
            raise DataError(
                f"{path}: no column {COUNTRY}, and the file's name is not that of one of {', '.join(countries.values())}"
            )
        frame.insert(0, "country", named[0])
    notes, seen = [], frame["country"].unique().tolist()
    frame = _drop_doubles(path, _weigh(path, frame, notes), notes)
    refused = _decode(frame, found, labels) if is_text else {}
    if refused and len(refused) == len(found):
        raise DataError(
            f"{path}, column '{names[found[0]]}': {refused[found[0]]}, and no other column can be read either. Take the cross-national CSV, "
            f"or put the official wording beside it as {path.parent / 'questions.csv'} (data/README.md)"
        )
    good = [question for question in found if question not in refused]
    broken = (frame[good] % 1 != 0) & frame[good].notna()
    for question in broken.columns[broken.any()]:
        line = broken[question].idxmax()
        found = f"expected a whole code, found {frame.loc[line, question]:g}"
        raise DataError(f"{path}, line {line}, column '{question}': {found}: fetch the file again")
    # Codes below 0 are missing: -1 don't know, -2 no answer, -3 not applicable, -4 not asked, -5 other.
    frame[good] = frame[good].where(frame[good] >= 0)
    return frame, notes, refused, seen


def _find_columns(path: Path, header: list[str], questions: Sequence[str]) -> dict[str, str]:
    """Key (variable name without a label behind it, upper case) to the column's name in the file."""
    keys = [re.match(r"\w*", name)[0].upper() for name in header]
    names = dict(zip(keys, header, strict=True))
    if not set(questions) & set(keys):
        if any(f"{question}P" in keys for question in questions):
            raise DataError(
                f"{path}: columns Q1P ...: the release with inverted scales; take the CSV without 'inverted' in its name"
            )
        if JOINT & set(keys):
            raise DataError(
                f"{path}: a joint EVS/WVS or trend file ({', '.join(sorted(JOINT & set(keys)))}): its question codes are not those "
                "of wave 7 and it cannot be used. Take the cross-national CSV of wave 7"
            )
        raise DataError(f"{path}, line 1: none of our questions ({questions[0]} ...) is a column: no file of wave 7")
    if WEIGHT not in keys:
        told = "shares without weights would not be the country's"
        raise DataError(f"{path}, line 1: no column {WEIGHT}; {told}: take the file as published")
    for key in (COUNTRY, WEIGHT, NUMBER, UNIT, *questions):
        if keys.count(key) > 1:
            raise DataError(f"{path}, line 1: column {key} stands twice in the header; keep one")
    return names


def _stream(path: Path, separator: str, header: list[str], names: dict, texts: set, countries: list[str]) -> pd.DataFrame:
    """Rows of the countries wanted (none named: of all), block by block; the index is the line in the file."""
    parts, line = [], 2
    try:
        reader = arrow.open_csv(
            note_read(path),
            read_options=arrow.ReadOptions(use_threads=False, block_size=BLOCK, column_names=header, skip_rows=1),
            parse_options=arrow.ParseOptions(delimiter=separator),
            convert_options=arrow.ConvertOptions(
                include_columns=list(names.values()), null_values=["", " ", "NA", "NaN", "nan"], strings_can_be_null=True,
                column_types={name: pa.string() if key in texts else pa.float64() for key, name in names.items()},
            ),
        )  # fmt: skip
        for batch in reader:
            lines = pa.array(np.arange(line, line + batch.num_rows))
            line += batch.num_rows
            owner = batch[names[COUNTRY]] if COUNTRY in names else lines
            keep = pc.is_in(owner, pa.array(countries)) if COUNTRY in names and countries else pc.is_valid(owner)
            parts.append(batch.append_column("", lines).filter(keep))
    except (pa.ArrowInvalid, OSError) as error:
        reason = " ".join(str(error).split())
        if where := re.search(r"column #(\d+).*Row #(\d+).*invalid value '(.*)'", reason):
            raise DataError(
                f"{path}, line {where[2]}, column '{header[int(where[1])]}': expected a number, found '{where[3]}'. Take the CSV as "
                "published: codes, not labels, and a decimal point"
            ) from error
        reason = re.sub(r"Row #(\d+)", r"line \1", reason)[:300]
        raise DataError(f"{path}: {reason}; every row needs as many fields as the header: fetch the file again") from error
    if not parts:
        raise DataError(f"{path}: a header and no respondent below it: fetch the file again")
    frame = pa.Table.from_batches(parts).to_pandas()
    frame.columns = [*names, "line"]
    return frame.set_index("line")


def _weigh(path: Path, frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Respondents with a weight; the others are counted, since nothing says how much they stand for."""
    frame = frame.rename(columns={WEIGHT: "weight"})
    bad = frame.loc[(frame["weight"] < 0) | np.isinf(frame["weight"]), "weight"]
    if len(bad):
        found = f"expected a weight above 0, found {bad.iloc[0]:g}; {len(bad)} such rows"
        raise DataError(f"{path}, line {bad.index[0]}, column '{WEIGHT}': {found}: fetch the file again")
    gone = frame.loc[~(frame["weight"] > 0), "country"].value_counts(sort=False)
    notes += [f"{path.name}: {count} respondents of {country} without a weight left out" for country, count in gone.items()]
    return frame[frame["weight"] > 0]


def _drop_doubles(path: Path, frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """One of rows alike in everything read; two people under one number stay two, and are counted."""
    if NUMBER not in frame:
        return frame
    copies = frame.duplicated() & frame[NUMBER].notna()
    if copies.any():
        notes.append(f"{path.name}: {copies.sum()} rows that repeat another row with the same {NUMBER} left out")
    frame = frame[~copies]
    shared = frame.loc[frame.duplicated(["country", NUMBER], keep=False) & frame[NUMBER].notna(), NUMBER]
    if len(shared):
        notes.append(
            f"{path.name}: {len(shared)} rows share a {NUMBER} ({', '.join(shared.unique()[:3])}) and differ: kept as different people"
        )
    return frame.drop(columns=NUMBER)


def _decode(frame: pd.DataFrame, questions: Iterable[str], labels: Mapping[str, dict]) -> dict[str, str]:
    """Turn labels into codes in place; questions with a label that nothing explains are returned with it."""
    refused = {}
    for question in questions:
        codes = {text: read_label(text, labels.get(question, {})) for text in frame[question].dropna().unique()}
        strange = [text for text, code in codes.items() if code is None]
        if strange:
            count = frame[question].isin(strange).sum()
            refused[question] = f"label '{strange[0]}' is no option in questions.csv ({count} such answers)"
        else:
            frame[question] = frame[question].map(codes).astype(float)
    return refused


def _number_units(psu: pd.Series | None, size: int) -> tuple[np.ndarray, str]:
    """Numbers of what is drawn in a country's bootstrap, and what it is."""
    if psu is None or psu.isna().any() or psu.str.startswith("-").any() or not FEWEST_UNITS <= psu.nunique() < size:
        return np.arange(size), "respondents"
    return pd.factorize(psu)[0], f"primary sampling units ({UNIT})"
