"""What people answer: the survey's files, found and read into shares by culture, and how firm these are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as schema
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow

from align_utils.config.profiles import Config
from align_utils.store.steps import note_read
from align_utils.store.textfiles import (
    SEPARATORS,
    UTF_16,
    DataError,
    find_data_file,
    parse_numbers,
    read_header,
    read_table,
    refuse,
)
from align_utils.survey.distances import FEWEST, Pair, choose_size, rank_items, wasserstein
from align_utils.survey.items import fold_label, read_label, read_options

# Per question and culture the codes of the item in scale order; shares sum to 1. Without n a file has shares alone; `n_effective`
# is Kish's, from the weights.
SHARES = schema.DataFrameSchema({
    "question": schema.Column(),
    "culture": schema.Column(),
    "code": schema.Column(int),
    "share": schema.Column(float, schema.Check.in_range(0, 1 + 1e-9)),
    "n": schema.Column(float, schema.Check.gt(0), nullable=True),
    "n_effective": schema.Column(float, schema.Check.gt(0), nullable=True),
})  # fmt: skip
# Shares rounded to 0.01 may miss 1 by their rounding; more means that options are missing (a copy that was damaged on the way).
SUM_LOW, SUM_HIGH = 0.97, 1.03
# Down to here they are made to sum to 1 where every code of the scale is there, and counted: what was lost is no option.
SUM_LEAST = 0.94
# What the survey's files are named, in order of preference (a file a country comes after the first), and what they hold.
KINDS = {"respondents": "*WVS_Cross-National_Wave_7*.csv", "shares": "distributions*.csv", "opinions": "global_opinions*.csv"}
TURNED = "the release with inverted scales; take the CSV without 'inverted' in its name"
OTHER_WAVES = "a joint EVS/WVS, trend or other wave's file: its question codes are not those of wave 7"
NEVER = {
    "*inverted*": TURNED,
    **dict.fromkeys(["*joint*", "*trend*", "*time*series*", "*wv[1-6]*", "*wave_[1-6]*"], OTHER_WAVES),
}
# A country's respondents may stand under its name alone or marked as the current national sample; other samples are not the country's.
NATIONAL = " (Current national sample)"
COUNTRY, WEIGHT, NUMBER, UNIT = "B_COUNTRY_ALPHA", "W_WEIGHT", "D_INTERVIEW", "I_PSU"
# Columns of the joint EVS/WVS and the trend files alone.
JOINT = {"CNTRY_AN", "GWGHT", "S002VS", "S020", "F120", "E035"}
# With fewer primary sampling units than this their bootstrap says little, and respondents are drawn instead.
FEWEST_UNITS = 20
BLOCK = 4 << 20  # bytes read at a time: rows of other countries are gone before the next block comes


class Respondents(NamedTuple):
    """People with a weight and their answers."""

    # `country` (as in the file), `weight` (above 0), `unit` (number of what a bootstrap draws: a primary sampling unit or the
    # respondent), and a column a question with the file's codes; missing codes (below 0) are NaN.
    answers: pd.DataFrame
    units: dict[str, str]  # by country: what `unit` numbers there, in words
    repairs: list[str]  # what was put right or left out, counted
    refused: dict[str, str]  # by question: why its answers cannot be read


@dataclass(frozen=True)
class Human:
    """What people of the run's cultures answered."""

    shares: pd.DataFrame  # SHARES
    # The people behind the shares, their codes repaired like the shares'; None where the file has shares alone.
    respondents: Respondents | None = None
    # `question, reason` of items that cannot be used: not in the file, or damaged in it. Repairs of the file as a whole stand there
    # too, counted, as the question '(file)'.
    rejected: pd.DataFrame = field(default_factory=pd.DataFrame)

    def take(self, items: pd.DataFrame) -> Human:
        """The same people, their shares of these items alone."""
        return replace(self, shares=self.shares[self.shares["question"].isin(items["question"])])


def load_human(cfg: Config, items: pd.DataFrame) -> Human:
    """Read the human side once: the run's cultures, and the items that are sound in all of them.

    `items` are from `choose_items`; their `recode` and `drop` are applied to the file's codes. Raises a DataError for no survey file, a
    joint or trend file, no usable item, and what `read_respondents` and `read_global_opinions` raise.
    """
    names = _name_countries(cfg)
    # By culture: two may share a country.
    cultures = sorted((culture.survey_country, name) for name, culture in cfg.cultures.items())
    paths, kind, notes = find_survey(cfg)
    people, refused = None, {}
    if kind == "respondents":
        people = read_respondents(paths, names, items["question"].tolist(), _list_labels(cfg))
        shares, refused, notes = count_answers(people, items), people.refused, notes + people.repairs
        for item in items.itertuples():
            if item.recode and item.question in people.answers:
                people.answers[item.question] = people.answers[item.question].replace(item.recode)
    elif kind == "opinions":
        options = read_options(_find_wording(cfg))
        options = options[options["question"].isin(items["question"])]
        shares, refused = read_global_opinions(paths[0], names, options)
    else:
        shares, repairs = _read_aggregated(paths[0])
        notes += repairs
    shares = shares.reindex(columns=["question", "country", "answer", "share", "n", "n_effective"])
    given = {key: list(part.itertuples()) for key, part in shares.groupby(["question", "country"], sort=False)}
    kept, rejected, mended = [], [("(file)", note) for note in notes], []
    for item in items.itertuples():
        found = {country: given.get((item.question, country), []) for country in names}
        absent = "" if any(found.values()) else f"not in {paths[0].name}"
        if reason := refused.get(item.question) or absent or _judge_item(found, item):
            rejected.append((item.question, reason))
            continue
        if any(_add_up(rows) < SUM_LOW for rows in found.values()):
            mended.append(item.question)
        for country, culture in cultures:
            mass = dict.fromkeys(item.codes, 0.0)
            for row in found[country]:
                code = item.recode.get(row.answer, row.answer)
                mass |= {code: mass[code] + row.share} if code in mass else {}
            total, first = sum(mass.values()), found[country][0]
            kept += [(item.question, culture, code, mass[code] / total, first.n, first.n_effective) for code in item.codes]
    if not kept:
        # The first that is in the file: that others are not tells little.
        told = sorted(rejected[len(notes) :], key=lambda row: row[1].startswith("not in "))
        first = f" (of {told[0][0]}: {told[0][1]})" if told else ""
        raise DataError(f"{paths[0]}: none of our {len(items)} items is usable in all of {', '.join(names)}{first}")
    if mended:
        told = f"{len(mended)} items whose shares sum to {SUM_LEAST} or more and below {SUM_LOW}, every code among them"
        rejected.append(("(file)", f"{told}: made to sum to 1 ({', '.join(mended)})"))
    shares = SHARES.validate(pd.DataFrame(kept, columns=list(SHARES.columns)))
    return Human(shares, people, pd.DataFrame(rejected, columns=["question", "reason"]))


def load_world(cfg: Config, items: pd.DataFrame) -> Respondents | None:
    """Respondents of all countries of the cross-national file, in the file's codes; None where there is no such file."""
    path, _ = find_data_file(cfg.data_dir / "wvs", [KINDS["respondents"]], never=NEVER)
    return read_respondents([path], {}, items["question"].tolist(), _list_labels(cfg)) if path else None


def find_survey(cfg: Config) -> tuple[list[Path], str, list[str]]:
    """Files of the human side in order of preference, what they hold (of KINDS), and what was left aside."""
    folder, names = cfg.data_dir / "wvs", [name.replace(" ", "_") for name in _name_countries(cfg).values()]
    find = partial(find_data_file, folder, never=NEVER)
    kind = next((kind for kind, pattern in KINDS.items() if find([pattern])[0]), "")
    parts = [find([f"*Wave_7_{name}_*.csv"]) for name in names]
    there = [path.name for path, _ in parts if path]
    if there and kind != "respondents":
        if len(there) < len(names):
            lacking = next(name for name, (path, _) in zip(names, parts, strict=True) if path is None)
            raise DataError(f"{folder}: {', '.join(there)} but no *Wave_7_{lacking}_*.csv: every country, please")
        return [path for path, _ in parts], "respondents", [note for _, note in parts if note]
    path, note = find([*KINDS.values()])
    if path:
        return [path], kind, [note] if note else []
    raise DataError(
        f"{folder}: no survey file; expected {', '.join(KINDS.values())} or *Wave_7_<Country>_*.csv; {note}. Source: "
        "worldvaluessurvey.org, wave 7 (free registration); set ALIGN_DATA=<folder>"
    )


def _name_countries(cfg: Config) -> dict[str, str]:
    """Code in the survey: the country's name in it, as the first of its cultures with a `survey_name` has it."""
    cultures = list(cfg.cultures.values())
    named = {culture.survey_country: culture.survey_name for culture in reversed(cultures) if culture.survey_name}
    return {culture.survey_country: named.get(culture.survey_country, culture.label) for culture in cultures}


def _find_wording(cfg: Config) -> Path:
    return cfg.data_dir / "wvs" / "questions.csv"


def _list_labels(cfg: Config) -> dict[str, dict[str, int]]:
    options = read_options(_find_wording(cfg))
    return dict(zip(options["question"], options["labels"], strict=True))


def _judge_item(found: dict[str, list], item: tuple) -> str:
    """Reason to reject an item, or an empty string: every country's shares near 1 and only codes that the scale knows."""
    for country, rows in found.items():
        if not rows:
            return f"no answers from {country}"
        total = _add_up(rows)
        seen = {item.recode.get(row.answer, row.answer) for row in rows} - set(item.drop)
        expected = set(item.codes)
        if not (SUM_LEAST if seen == expected else SUM_LOW) <= total <= SUM_HIGH:
            return f"shares of {country} sum to {total:.2f}"
        if seen - expected:
            return f"{country} has codes {sorted(seen - expected)} outside the scale"
        if not sum(row.share for row in rows if row.answer not in item.drop) > 0:
            return f"nobody in {country} gave an answer on the scale"
        if len({str(row.n) for row in rows}) > 1:
            return f"{country} has different n in the rows of one question"
        if pd.isna(rows[0].n) and len(seen) < len(expected):
            return f"{country} lacks codes {sorted(expected - seen)}"
    return ""


def _add_up(rows: list) -> float:
    return round(sum(row.share for row in rows), 6)  # shares have two decimals: 0.97 must not fail by a float


# Shares by country, and GlobalOpinionQA.


def _read_aggregated(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The rows of answers on a scale, and what was repaired: codes below 0 (no answer) are left out of the shares."""
    frame = read_table(path, ["question", "country", "answer", "share"], optional=["n"])
    frame["share"] = parse_numbers(frame, "share", path, low=0, high=1)
    frame["answer"] = parse_numbers(frame, "answer", path, low=-9, high=99, whole=True)
    frame["n"] = parse_numbers(frame, "n", path, low=1, high=1e9) if "n" in frame else float("nan")
    refuse(path, frame, frame.duplicated(["question", "country", "answer"]), "this question, country and answer stand twice")
    missing = frame["answer"] < 0
    if not missing.any():
        return frame, []
    gone = frame["share"].where(missing, 0.0).groupby([frame["question"], frame["country"]]).transform("sum")
    frame["share"] /= (1 - gone).where(gone < 1, 1.0)
    note = f"{missing.sum()} rows of codes below 0 (no answer) left out, the other shares of their questions made to match"
    return frame[~missing], [note]


def read_global_opinions(
    path: Path, countries: Mapping[str, str], options: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The World Values Survey's rows of GlobalOpinionQA's `global_opinions.csv`, which has no question numbers, weights or n.

    The official wording (`options`, from `items.read_options`) tells which row is which item. Returns `question, country, answer` (code),
    `share` (of the options that are answers; the others, such as "Don't know", left out), and by question why a row cannot be used.
    Source: Durmus et al. (2023), Anthropic/llm_global_opinions, CC BY-NC-SA 4.0.
    """
    try:
        frame = pd.read_csv(note_read(path), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError, EOFError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}; fetch the file again (UTF-8)") from error
    missing = [column for column in ("question", "selections", "options", "source") if column not in frame]
    if missing:
        raise DataError(
            f"{path}, line 1: column {', '.join(missing)} not found; the header holds: {', '.join(frame.columns)}. Take the file as published, separated by commas"
        )
    frame = frame[frame["source"] == "WVS"]
    rows = {text: part for text, part in frame.groupby(frame["question"].map(fold_label), sort=False) if text}
    shares, refused, matched = [], {}, 0
    for item in options.itertuples():
        found = rows.get(fold_label(item.text), frame[:0])
        matched += len(found) > 0
        if len(found) != 1:
            refused[item.question] = f"its wording stands in {len(found)} rows of {path.name}"
            continue
        given = _share_out(path, found.iloc[0], item.labels, countries)
        if isinstance(given, str):
            refused[item.question] = given
        else:
            shares += [(item.question, *row) for row in given]
    if not matched:
        raise DataError(
            f"{path}: none of its {len(frame)} rows from the WVS has the wording of an item. It has no question numbers: put the official "
            f"English wording beside it as {path.parent / 'questions.csv'} (data/README.md)"
        )
    return pd.DataFrame(shares, columns=["question", "country", "answer", "share"]), refused


def _share_out(path: Path, row: pd.Series, labels: dict[str, int], countries: Mapping[str, str]) -> list[tuple] | str:
    """Country, code and share of every answer in a row of GlobalOpinionQA, or why the row cannot be used."""
    options, given = _parse(path, row, "options", list), _parse(path, row, "selections", dict)
    codes = [read_label(str(option), labels) for option in options]
    if None in codes:
        return f"option '{options[codes.index(None)]}' is not in questions.csv"
    answers = [code for code in codes if code >= 0]
    if len(set(answers)) < max(len(answers), 2):
        return f"its {len(answers)} options are not two or more different answers"
    result = []
    for country, name in countries.items():
        listed = given.get(name, given.get(name + NATIONAL))
        if not isinstance(listed, list) or len(listed) != len(codes):
            return f"{name} has {len(listed) if isinstance(listed, list) else 'no'} shares for {len(codes)} options"
        shares = pd.to_numeric(pd.Series([str(one) for one in listed]), errors="coerce").astype(float)
        if not shares.between(0, 1).all() or not SUM_LOW <= round(shares.sum(), 6) <= SUM_HIGH:
            return f"shares of {name} sum to {shares.sum():.2f}"
        kept = [(code, share) for code, share in zip(codes, shares, strict=True) if code >= 0]
        total = sum(share for _, share in kept)
        if not total > 0:
            return f"nobody in {name} gave an answer"
        result += [(country, code, share / total) for code, share in kept]
    return result


def _parse(path: Path, row: pd.Series, column: str, kind: type):
    text = row[column]
    if kind is dict:  # printed as defaultdict(<class 'list'>, {...})
        text = text[text.find("{") : text.rfind("}") + 1]
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, kind):
        raise DataError(
            f"{path}, row {row.name + 1} below the header, column '{column}': expected a Python {kind.__name__}, found {row[column][:60]!r}; "
            "fetch the file again"
        )
    return found


# Respondents: the cross-national CSV of any release, or one CSV a country.


def read_respondents(
    paths: Sequence[Path], countries: Mapping[str, str], questions: Sequence[str], labels: Mapping[str, dict]
) -> Respondents:
    """Read the answers of some countries: of the cross-national file, or of one file a country, only the columns needed.

    `countries` are codes in B_COUNTRY_ALPHA with the name in the name of a one-country file (none: all of the cross-national file);
    of `questions` those that no file holds are left out; `labels` (`items.read_options`) are for files with labels in place of codes.
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
        unit[part.index], units[country] = np.arange(len(part)), "respondents"
        psu = part[UNIT] if UNIT in frame else pd.Series([None])
        if not psu.isna().any() and not psu.str.startswith("-").any() and FEWEST_UNITS <= psu.nunique() < len(part):
            unit[part.index], units[country] = pd.factorize(psu)[0], f"primary sampling units ({UNIT})"
    kept = [question for question in questions if question in frame and question not in refused]
    answers = pd.concat([frame[["country", "weight"]], pd.Series(unit, name="unit"), frame[kept]], axis=1)
    return Respondents(answers, units, [note for part in notes for note in part], refused)


def count_answers(people: Respondents, items: pd.DataFrame) -> pd.DataFrame:
    """Weighted shares of every answer to the items; the codes that an item drops count as missing.

    Returns `question, country, answer` (the file's code), `share`, `n` (respondents with an answer), `n_effective`.
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
            pairs = zip(answers.tolist(), shares, strict=True)
            rows += [(item.question, country, answer, share, *sizes) for answer, share in pairs]
    return pd.DataFrame(rows, columns=["question", "country", "answer", "share", "n", "n_effective"])


def measure_effective(weights: Sequence[float]) -> float:
    """Kish's effective n (1965, section 11.7): how many equally weighted respondents would say as much; NaN for none.

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
        told = f"expected a whole code, found {frame.loc[line, question]:g}"
        raise DataError(f"{path}, line {line}, column '{question}': {told}: fetch the file again")
    # Codes below 0 are missing: -1 don't know, -2 no answer, -3 not applicable, -4 not asked, -5 other.
    frame[good] = frame[good].where(frame[good] >= 0)
    return frame, notes, refused, seen


def _find_columns(path: Path, header: list[str], questions: Sequence[str]) -> dict[str, str]:
    """Key (variable name without a label behind it, upper case) to the column's name in the file."""
    keys = [re.match(r"\w*", name)[0].upper() for name in header]
    names = dict(zip(keys, header, strict=True))
    if turned := [key for key in keys if re.fullmatch(r"Q\d+P", key) and key[:-1] not in keys]:
        found = f"column {turned[0]} without {turned[0][:-1]}, and {len(turned) - 1} more of its kind"
        raise DataError(f"{path}, line 1: {found}: {TURNED}")
    if not set(questions) & set(keys):
        if JOINT & set(keys):
            raise DataError(
                f"{path}: {OTHER_WAVES} ({', '.join(sorted(JOINT & set(keys)))}). Take the cross-national CSV of wave 7"
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
    with path.open("rb") as file:
        encoding = "utf-16" if file.read(2) in UTF_16 else "utf8"
    try:
        reader = arrow.open_csv(
            note_read(path),
            read_options=arrow.ReadOptions(use_threads=False, block_size=BLOCK, column_names=header, skip_rows=1, encoding=encoding),
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
        raise DataError(
            f"{path}: {reason}; every row needs as many fields as the header: fetch the file again, or write it without row names"
        ) from error
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
        some = ", ".join(shared.unique()[:3])
        notes.append(f"{path.name}: {len(shared)} rows share a {NUMBER} ({some}) and differ: kept as different people")
    return frame.drop(columns=NUMBER)


def _decode(frame: pd.DataFrame, questions: Sequence[str], labels: Mapping[str, dict]) -> dict[str, str]:
    """Turn labels into codes in place; questions with a label that nothing explains are returned with it."""
    refused = {}
    for question in questions:
        codes = {text: read_label(text, labels.get(question, {})) for text in frame[question].dropna().unique()}
        if strange := [text for text, code in codes.items() if code is None]:
            count = frame[question].isin(strange).sum()
            refused[question] = f"label '{strange[0]}' is no option in questions.csv ({count} such answers)"
        else:
            frame[question] = frame[question].map(codes).astype(float)
    return refused


# How firm the human side is: people drawn anew, dealt into halves, and the choice of items made again.


def describe_people(cfg: Config, human: Human) -> pd.DataFrame:
    """Mean answer of every country on every item, with its interval.

    With respondents the interval is a bootstrap over them (over primary sampling units where the file has them, so that it holds the
    design's clustering; one unit fewer is drawn than there are, so that the spread is not too small: Rao, Wu and Yue 1992; the file names
    no strata); without, shares are drawn anew (multinomial) at the file's n or the culture's `survey_n`. Returns `question, culture,
    value` (0 = first point of the scale, 1 = last), `low, high, n, n_effective, interval` (in words).
    """
    drawn = draw_shares(cfg, human, draws=cfg.profile.stats.resamples)
    tail = (1 - cfg.profile.stats.level) / 2
    rows = []
    for (question, culture), part in human.shares.groupby(["question", "culture"], sort=False):
        points = np.linspace(0, 1, len(part))
        low, high = np.nanquantile(drawn[question, culture] @ points, [tail, 1 - tail])
        rows.append({
            "question": question, "culture": culture, "value": float(part["share"] @ points), "low": low, "high": high,
            "n": _size(cfg, part), "n_effective": part["n_effective"].iloc[0], "interval": _name_draws(cfg, human, part),
        })  # fmt: skip
    return pd.DataFrame(rows)


def draw_halves(cfg: Config, human: Human) -> pd.DataFrame:
    """Answer distributions of two random halves of every country's people: how far sampling alone sets them apart, at half the n.

    Respondents (or their primary sampling units) are dealt out, weights kept; shares alone are drawn (multinomial) at half their n,
    which leaves out weights and clusters, so that such halves lie too near. No bound: with a variance s^2 of one answer, the
    difference of two halves has 4 s^2 / n, that of two whole samples 2 s^2 / n (nearer by a factor of about 1.4), and exact answers
    against the whole sample s^2 / n (about twice as near). Returns `question, culture, half` (1 or 2), `code, share`; codes in scale
    order.
    """
    codes = human.shares.groupby("question", sort=False)["code"].unique()
    parts = [
        pd.DataFrame({"question": one, "culture": culture, "half": half, "code": codes[one], "share": shares[one][0]})
        for culture, *halves in draw_people(cfg, human, draws=1, halves=True)
        for one in halves[0]
        for half, shares in enumerate(halves, start=1)
    ]
    return pd.concat(parts, ignore_index=True)


def draw_choice(cfg: Config, human: Human, pair: Pair, *, draws: int = 200) -> pd.DataFrame:
    """Choose the items on which two cultures differ most again from answers drawn anew, the weights kept.

    Returns whether a question is chosen in a draw, shape (draws, questions); the columns by falling distance in the data themselves, so
    that the first are the original choice. The mean of a column is how often that item is chosen.
    """
    frame = rank_items(human.shares, pair, wanted=cfg.profile.survey.high_tension)
    if pair is None:
        return pd.DataFrame(columns=frame["question"])
    ranked, size = frame["question"], int(frame["chosen"].sum())
    drawn = draw_shares(cfg, human, draws=draws)
    tension = np.column_stack([wasserstein(*(drawn[one, culture] for culture in pair)) for one in ranked])
    # A draw without any answer to a question says nothing for choosing it.
    places = np.argsort(-np.nan_to_num(tension, nan=-1.0), axis=1, kind="stable")[:, :size]
    chosen = np.zeros(tension.shape, dtype=bool)
    np.put_along_axis(chosen, places, True, axis=1)
    return pd.DataFrame(chosen, columns=ranked.tolist())


def describe_choice(cfg: Config, chosen: pd.DataFrame, human: Human, pair: Pair) -> str:
    """One sentence on `draw_choice`: how many of the chosen items stay chosen; a second where they are fewer than wanted."""
    if pair is None:
        return "This run's cultures are of one country: there are no two whose answers could differ."
    wanted = cfg.profile.survey.high_tension
    size = choose_size(chosen.shape[1], wanted)
    kept = chosen.iloc[:, :size].sum(axis=1)
    low, high = np.quantile(kept, [0.025, 0.975])
    own = dict(tuple(human.shares.groupby("culture")))
    drawn = "; ".join(f"{one}: {_name_draws(cfg, human, own[one])}" for one in pair)
    return (
        f"{size} of {chosen.shape[1]} items are chosen (the profile asks for {wanted}; at most a third of the items there are, or "
        f"{FEWEST} where these are no more than half); {kept.mean():.1f} of them stay on average when both countries' answers are drawn anew {len(kept)} times "
        f"({drawn}), 95 % of the draws keep {low:.0f} to {high:.0f}."
        + (" Fifty need the official cross-national file." if size < wanted else "")
    )


def draw_shares(cfg: Config, human: Human, *, draws: int) -> dict[tuple[str, str], np.ndarray]:
    """By question and culture: distributions drawn anew, shape (draws, k), NaN in a draw without an answer; a respondent's stay together."""
    drawn = draw_people(cfg, human, draws=draws)
    return {(question, culture): shares for culture, whole in drawn for question, shares in whole.items()}


def draw_people(cfg: Config, human: Human, *, draws: int, halves: bool = False) -> Iterator[tuple]:
    """Culture and the shares of its people drawn anew, or of two random halves of them: by question arrays of shape (draws, k)."""
    for number, (culture, part) in enumerate(human.shares.groupby("culture", sort=False)):
        rng, items = np.random.default_rng([cfg.profile.seed, number]), dict(tuple(part.groupby("question", sort=False)))
        if human.respondents is None:
            sizes = [lambda n: n // 2, lambda n: (n + 1) // 2] if halves else [lambda n: n]
            sides = [
                {q: rng.multinomial(cut(_size(cfg, own)), own["share"], size=draws) for q, own in items.items()}
                for cut in sizes
            ]
        else:
            totals, places = _total_units(cfg, human, culture, items)
            n = len(totals)
            if halves:
                picked = rng.permuted(np.tile(np.arange(n) % 2, (draws, 1)), axis=1).astype(float)
            else:  # Rao, Wu and Yue: units less one, with replacement
                picked = rng.multinomial(n - 1, np.full(n, 1 / n), size=draws).astype(float)
            sums = [often @ totals for often in ([picked, 1 - picked] if halves else [picked])]
            sides = [{question: side[:, place] for question, place in places.items()} for side in sums]
        yield culture, *({question: _normalise(given) for question, given in side.items()} for side in sides)


def _total_units(cfg: Config, human: Human, culture: str, items: dict) -> tuple[np.ndarray, dict[str, slice]]:
    """Weight of every answer to every question, summed per unit drawn: array (units, answers) and each question's columns."""
    answers = human.respondents.answers
    own = answers[answers["country"] == cfg.cultures[culture].survey_country]
    units, weights = own["unit"].to_numpy(), own["weight"].to_numpy()
    columns, places = [], {}
    for question, part in items.items():
        places[question] = slice(len(columns), len(columns) + len(part))
        given = own[question].to_numpy()
        columns += [np.bincount(units, weights * (given == code), minlength=units.max() + 1) for code in part["code"]]
    return np.column_stack(columns), places


def _normalise(sums: np.ndarray) -> np.ndarray:
    total = sums.sum(axis=1, keepdims=True)
    return np.divide(sums, total, out=np.full(sums.shape, np.nan), where=total > 0)


def _size(cfg: Config, part: pd.DataFrame) -> int:
    """The file's n of one item in one culture, or the culture's `survey_n`."""
    n = part["n"].iloc[0]
    return cfg.cultures[part["culture"].iloc[0]].survey_n if np.isnan(n) else int(n)


def _name_draws(cfg: Config, human: Human, part: pd.DataFrame) -> str:
    culture = cfg.cultures[part["culture"].iloc[0]]
    if human.respondents is not None:
        return f"bootstrap over {human.respondents.units[culture.survey_country]}, weighted"
    return "multinomial draws " + ("at the file's n" if part["n"].notna().all() else f"as if n = {culture.survey_n}")
