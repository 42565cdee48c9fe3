"""What people answer: the survey's files, found and read into shares by culture, and how firm these are."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
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
from align_utils.config.settings import Culture
from align_utils.store.steps import (
    MissingInput,
    find_step,
    hash_file,
    hash_settings,
    make_step,
    note_made,
    note_read,
    read_frame,
    require,
    save_frame,
)  # fmt: skip
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
    "question": schema.Column(str),
    "culture": schema.Column(str),
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
# With fewer primary sampling units than this their bootstrap says little, and respondents are drawn instead.
FEWEST_UNITS = 20
# Bumped when the shares change for the same files.
PEOPLE_VERSION = 1
# How often the items on which two countries differ most are chosen again.
CHOICES = 200


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
    countries, people, refused = _name_countries(cfg.cultures), None, {}
    paths, kind, notes = find_survey(cfg)
    options = _read_options(cfg)
    if kind == "respondents":
        people = read_respondents(paths, countries, items["question"].tolist(), options)
        changes = {item.question: item.recode | dict.fromkeys(item.drop, np.nan) for item in items.itertuples()}
        people = people._replace(answers=people.answers.replace(changes))
        shares, refused, notes = count_answers(people.answers), people.refused, notes + people.repairs
    elif kind == "opinions":
        shares, refused = read_global_opinions(paths[0], countries, options[options["question"].isin(items["question"])])
    else:
        shares, repairs = _read_aggregated(paths[0])
        notes += repairs
    recodes = {(item.question, old): new for item in items.itertuples() for old, new in item.recode.items()}
    shares = shares.reindex(columns=["question", "country", "answer", "share", "n", "n_effective"])
    shares["code"] = [recodes.get(key, key[1]) for key in zip(shares["question"], shares["answer"], strict=True)]
    given = {key: list(part.itertuples()) for key, part in shares.groupby(["question", "country"], sort=False)}
    # By culture: two may share a country.
    cultures = sorted((culture.survey_country, name) for name, culture in cfg.cultures.items())
    kept, rejected, mended = [], [("(file)", note) for note in notes], []
    for item in items.itertuples():
        found = {country: given.get((item.question, country), []) for country in countries}
        absent = "" if any(found.values()) else f"not in {paths[0].name}"
        reasons = [refused.get(item.question), absent, *(_judge_item(item, *own) for own in found.items())]
        if reason := next(filter(None, reasons), ""):
            rejected.append((item.question, reason))
            continue
        if any(_add_up(rows) < SUM_LOW for rows in found.values()):
            mended.append(item.question)
        for country, culture in cultures:
            rows = found[country]
            mass = [sum(row.share for row in rows if row.code == code) for code in item.codes]
            sizes = rows[0].n, rows[0].n_effective
            kept += [
                (item.question, culture, code, one / sum(mass), *sizes) for code, one in zip(item.codes, mass, strict=True)
            ]
    if not kept:
        # The first that is in the file: that others are not tells little.
        told = sorted(rejected[len(notes) :], key=lambda row: row[1].startswith("not in "))
        first = f" (of {told[0][0]}: {told[0][1]})" if told else ""
        raise DataError(f"{paths[0]}: none of our {len(items)} items is usable in all of {', '.join(countries)}{first}")
    if mended:
        told = f"{len(mended)} items whose shares sum to {SUM_LEAST} or more and below {SUM_LOW}, every code among them"
        rejected.append(("(file)", f"{told}: made to sum to 1 ({', '.join(mended)})"))
    shares = SHARES.validate(pd.DataFrame(kept, columns=list(SHARES.columns)))
    return Human(shares, people, pd.DataFrame(rejected, columns=["question", "reason"]))


def store_human(cfg: Config, items: pd.DataFrame) -> None:
    """Leave what `load_human` reads in `runs/<profile>/survey/people/`, for all that comes after 05; files that have not changed are not read."""
    folder, (paths, kind, _) = cfg.runs / "survey" / "people", find_survey(cfg)
    wording = cfg.data_dir / "wvs" / "questions.csv"
    files = [note_read(path) for path in (*paths, wording) if path.is_file()]
    settings = _describe_people(cfg, items) | {"kind": kind, "files": [hash_file(path) for path in files]}
    if not (find_step(folder, settings) and all((folder / name).is_file() for name in _list_frames(kind))):
        with make_step(folder, settings) as work:
            human = load_human(cfg, items)
            frames = [human.shares, human.rejected]
            if human.respondents is not None:
                units = pd.Series(human.respondents.units, name="unit").rename_axis("country").reset_index()
                frames += [units, human.respondents.answers]
            for name, frame in zip(_list_frames(kind), frames, strict=True):
                save_frame(frame, work / name)
    for name in _list_frames(kind):
        note_made(folder / name)


def read_human(cfg: Config, items: pd.DataFrame) -> Human:
    """What `store_human` left (of respondents `repairs` and `refused` stand in `rejected`); MissingInput where 05 has not run, or has with other
    cultures or `items`."""
    folder, made_by = cfg.runs / "survey" / "people", "05_wvs_survey"
    settings = json.loads(require(folder / "step.json", made_by=made_by).read_text(encoding="utf-8"))["settings"]
    if settings | _describe_people(cfg, items) != settings:
        raise MissingInput(
            f"{folder} holds what people of other cultures, or to other items, answered: run notebook {made_by} again (`make 05`)"
        )
    shares, rejected, *more = (read_frame(folder / name, made_by=made_by) for name in _list_frames(settings["kind"]))
    people = None
    if more:
        people = Respondents(more[1], dict(zip(more[0]["country"], more[0]["unit"], strict=True)), [], {})
    return Human(SHARES.validate(shares), people, rejected)


def _list_frames(kind: str) -> list[str]:
    """Files of `store_human`, by what the survey's files hold."""
    return ["shares.parquet", "rejected.parquet", *(["units.parquet", "respondents.parquet"] if kind == "respondents" else [])]


def _describe_people(cfg: Config, items: pd.DataFrame) -> dict:
    """What people's shares depend on, beside the files."""
    asked = items[["question", "codes", "recode", "drop"]].values.tolist()
    cultures = {name: culture.survey_country for name, culture in cfg.cultures.items()}
    named = {"cultures": cultures, "countries": _name_countries(cfg.cultures)}
    return {"version": PEOPLE_VERSION, "items": hash_settings({"asked": asked}), **named}


def load_world(cfg: Config, items: pd.DataFrame) -> Respondents | None:
    """Respondents of all countries of the cross-national file, in the file's codes; None where there is no such file."""
    path, _ = find_data_file(cfg.data_dir / "wvs", [KINDS["respondents"]], never=NEVER)
    return read_respondents([path], {}, items["question"].tolist(), _read_options(cfg)) if path else None


def find_survey(cfg: Config) -> tuple[list[Path], str, list[str]]:
    """Files of the human side in order of preference, what they hold (of KINDS), and what was left aside."""
    folder, names = cfg.data_dir / "wvs", [name.replace(" ", "_") for name in _name_countries(cfg.cultures).values()]
    find = partial(find_data_file, folder, never=NEVER)
    kind = next((kind for kind, pattern in KINDS.items() if find([pattern])[0]), "")
    parts = [find([f"*Wave_7_{name}_*.csv"]) for name in names]
    there = [path for path, _ in parts if path]
    if kind != "respondents" and len(there) == len(parts):
        return there, "respondents", [note for _, note in parts if note]
    path, note = find([*KINDS.values()])
    if path and (kind == "respondents" or not there):
        return [path], kind, [note] if note else []
    raise DataError(
        f"{folder}: no survey file; expected {', '.join(KINDS.values())} or *Wave_7_<Country>_*.csv of every country "
        f"({', '.join(names)}); {note or f'found {there[0].name} alone'}. Source: worldvaluessurvey.org, wave 7 (free registration); set ALIGN_DATA=<folder>"
    )


def _name_countries(cultures: Mapping[str, Culture]) -> dict[str, str]:
    """Code in the survey: the country's name in it, as the first of its cultures with a `survey_name` has it."""
    cultures = list(cultures.values())
    named = {culture.survey_country: culture.survey_name for culture in reversed(cultures) if culture.survey_name}
    return {culture.survey_country: named.get(culture.survey_country, culture.label) for culture in cultures}


def _read_options(cfg: Config) -> pd.DataFrame:
    return read_options(cfg.data_dir / "wvs" / "questions.csv")


def _judge_item(item: tuple, country: str, rows: list[tuple]) -> str:
    """Reason to reject an item, or an empty string: a country's shares near 1 and only codes that the scale knows."""
    total, expected, seen = _add_up(rows), set(item.codes), {row.code for row in rows} - set(item.drop)
    sizes = {str(row.n) for row in rows}
    faults = {
        f"no answers from {country}": not rows,
        f"shares of {country} sum to {total:.2f}": not (SUM_LEAST if seen == expected else SUM_LOW) <= total <= SUM_HIGH,
        f"{country} has codes {sorted(seen - expected)} outside the scale": seen - expected,
        f"nobody in {country} gave an answer on the scale": not sum(row.share for row in rows if row.code in expected) > 0,
        f"{country} has different n in the rows of one question": len(sizes) > 1,
        f"{country} lacks codes {sorted(expected - seen)}": sizes == {"nan"} and seen < expected,
    }
    return next((why for why, is_so in faults.items() if is_so), "")


def _add_up(rows: list[tuple]) -> float:
    return round(sum(row.share for row in rows), 6)  # shares have two decimals: 0.97 must not fail by a float


# Shares by country, and GlobalOpinionQA.


def _read_aggregated(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The rows of answers on a scale, and what was repaired."""
    frame = read_table(path, ["question", "country", "answer", "share"], optional=["n"])
    frame["share"] = parse_numbers(frame, "share", path, low=0, high=1)
    frame["answer"] = parse_numbers(frame, "answer", path, low=-9, high=99, whole=True)
    frame["n"] = parse_numbers(frame, "n", path, low=1, high=1e9) if "n" in frame else float("nan")
    refuse(path, frame, frame.duplicated(["question", "country", "answer"]), "this question, country and answer stand twice")
    gone = (frame["answer"] < 0).sum()
    note = f"{gone} rows of codes below 0 (no answer) left out, the other shares of their questions made to match"
    return _drop_missing(frame), [note] if gone else []


def _drop_missing(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of codes that are answers, their shares those of the answers alone: codes below 0 are no answer."""
    gone = frame["share"].where(frame["answer"] < 0, 0.0).groupby([frame["question"], frame["country"]]).transform("sum")
    return frame.assign(share=frame["share"] / (1 - gone).where(gone < 1, 1.0))[frame["answer"] >= 0]


def read_global_opinions(
    path: Path, countries: Mapping[str, str], options: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The World Values Survey's rows of GlobalOpinionQA's `global_opinions.csv`, which has no question numbers, weights or n.

    The official wording (`options`, from `items.read_options`) tells which row is which item. Returns `question, country, answer` (code),
    `share` (of the options that are answers; the others, such as "Don't know", left out), and by question why a row cannot be used.
    Source: Durmus et al. (2023), Anthropic/llm_global_opinions, CC BY-NC-SA 4.0.
    """
    columns = ["question", "selections", "options", "source"]
    try:
        frame = pd.read_csv(note_read(path), usecols=columns, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError, EOFError) as error:
        told = " ".join(str(error).split())
        raise DataError(f"{path}: {told}; fetch the file again, as published (columns separated by commas, UTF-8)") from error
    frame = frame[frame["source"] == "WVS"]
    keys, wanted = frame["question"].map(fold_label), options["text"].map(fold_label)
    if not keys.isin(wanted).any():
        raise DataError(
            f"{path}: none of its {len(frame)} rows from the WVS has the wording of an item. It has no question numbers: put the official "
            f"English wording beside it as {path.parent / 'questions.csv'} (data/README.md)"
        )
    shares, refused = [], {}
    for item, key in zip(options.itertuples(), wanted, strict=True):
        found = frame[keys == key]
        if len(found) != 1:
            refused[item.question] = f"its wording stands in {len(found)} rows of {path.name}"
            continue
        listed, given = (_parse(path, found.iloc[0], *of) for of in (("options", list), ("selections", dict)))
        codes = [read_label(str(option), item.labels) for option in listed]
        if None in codes:
            refused[item.question] = f"option '{listed[codes.index(None)]}' is not in questions.csv"
            continue
        for country, name in countries.items():
            own = given.get(name, given.get(name + NATIONAL))
            if not isinstance(own, list) or len(own) != len(codes):
                refused[item.question] = f"{name} has not one share for each of {len(codes)} options"
                continue
            own = pd.to_numeric(pd.Series(own).map(str), errors="coerce").astype(float)
            own = own.where(own >= 0)  # what is no share leaves no sum, which rejects the item
            shares += [(item.question, country, code, share) for code, share in zip(codes, own, strict=True)]
    return _drop_missing(pd.DataFrame(shares, columns=["question", "country", "answer", "share"])), refused


def _parse(path: Path, row: pd.Series, column: str, kind: type) -> list | dict:
    text = row[column]
    if kind is dict:  # printed as defaultdict(<class 'list'>, {...})
        text = text[text.find("{") : text.rfind("}") + 1]
    with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if isinstance(found := ast.literal_eval(text), kind):
            return found
    raise DataError(
        f"{path}, row {row.name + 1} below the header, column '{column}': expected a Python {kind.__name__}, found {row[column][:60]!r}; "
        "fetch the file again"
    )


# Respondents: the cross-national CSV of any release, or one CSV a country.


def read_respondents(
    paths: Sequence[Path], countries: Mapping[str, str], questions: Sequence[str], options: pd.DataFrame
) -> Respondents:
    """Read the answers of some countries: of the cross-national file, or of one file a country, only the columns needed.

    `countries` are codes in B_COUNTRY_ALPHA with the name in the name of a one-country file (none: all of the cross-national file);
    of `questions` those that no file holds are left out; `options` (`items.read_options`) are for files with labels in place of codes.
    """
    frame = pd.concat([_read_file(path, countries, questions) for path in paths], keys=map(str, paths))
    seen, places = frame["country"].unique(), ", ".join(map(str, paths))
    frame, repairs = _leave_out(frame, ", ".join(path.name for path in paths))
    for country in countries or seen:
        if not (frame["country"] == country).any():
            raise DataError(
                f"{places}: no respondent of {country} with a weight. Expected its code in {COUNTRY} of the cross-national file, or a "
                "file of its own named ..._Wave_7_<Country>_..."
            )
    labels, codes, refused = options.set_index("question")["labels"], {}, {}
    for question in frame.columns.drop(["country", "weight", NUMBER, UNIT]):
        answers = frame[question]
        if not pd.api.types.is_numeric_dtype(answers):
            meant = {text: read_label(str(text), labels.get(question, {})) for text in answers.dropna().unique()}
            if strange := [text for text, code in meant.items() if code is None]:
                count = answers.isin(strange).sum()
                refused[question] = f"label '{strange[0]}' is no option in questions.csv ({count} such answers)"
                continue
            answers = answers.map(meant).astype(float)
        if (broken := answers.notna() & (answers % 1 != 0)).any():
            path, line = broken.idxmax()
            told = f"expected a whole code, found {answers[broken].iloc[0]:g}"
            raise DataError(f"{path}, line {line}, column '{question}': {told}: fetch the file again")
        # Codes below 0 are missing: -1 don't know, -2 no answer, -3 not applicable, -4 not asked, -5 other.
        codes[question] = answers.where(answers >= 0)
    if not codes:
        first, why = next(iter(refused.items()))
        raise DataError(
            f"{places}, column {first}: {why}, and no other column can be read either. Take the cross-national CSV, or put the official "
            f"wording beside it as {paths[0].parent / 'questions.csv'} (data/README.md)"
        )
    unit, units = pd.Series(0, index=frame.index, name="unit"), {}
    for country, part in frame.groupby("country", sort=False):
        psu = part[UNIT]
        is_known = not psu.isna().any() and not psu.str.startswith("-").any() and FEWEST_UNITS <= psu.nunique() < len(part)
        unit[frame["country"] == country] = pd.factorize(psu)[0] if is_known else np.arange(len(part))
        units[country] = f"primary sampling units ({UNIT})" if is_known else "respondents"
    answers = pd.concat([frame[["country", "weight"]], unit, pd.DataFrame(codes)], axis=1).reset_index(drop=True)
    return Respondents(answers, units, repairs, refused)


def count_answers(answers: pd.DataFrame) -> pd.DataFrame:
    """Weighted shares of every answer in `Respondents.answers`.

    Returns `question, country, answer` (code), `share`, `n` (respondents with an answer), `n_effective` (Kish 1965, section 11.7: how
    many equally weighted respondents would say as much).

    >>> people = pd.DataFrame({"country": "USA", "weight": [3.0, 1.0], "unit": [0, 1], "Q2": [1.0, 4.0]})
    >>> count_answers(people)[["answer", "share", "n", "n_effective"]].astype(float).iloc[0].tolist()
    [1.0, 0.75, 2.0, 1.6]
    """
    by = ["question", "country"]
    long = answers.melt(["country", "weight", "unit"], var_name="question", value_name="answer").dropna(subset="answer")
    long["square"] = long["weight"] ** 2
    whole = long.groupby(by).agg(total=("weight", "sum"), squares=("square", "sum"), n=("weight", "size"))
    rows = long.groupby([*by, "answer"])["weight"].sum().reset_index().merge(whole.reset_index(), on=by)
    rows["share"], rows["n_effective"] = rows["weight"] / rows["total"], rows["total"] ** 2 / rows["squares"]
    return rows.astype({"answer": int, "n": float})[[*by, "answer", "share", "n", "n_effective"]]


def _read_file(path: Path, countries: Mapping[str, str], questions: Sequence[str]) -> pd.DataFrame:
    """`country, weight`, NUMBER, UNIT and the questions that are there, as the file has them; the index is the line in the file."""
    headers = {separator: read_header(path, separator) for separator in SEPARATORS}
    separator, header = max(headers.items(), key=lambda one: len(one[1]))
    names = _find_columns(path, header, questions)
    # In the files of one country the question's wording follows its number, and the answers are labels.
    is_text = any(names[key] != key and " " in names[key] for key in questions if key in names)
    names = {key: names[key] for key in (COUNTRY, WEIGHT, NUMBER, UNIT, *questions) if key in names}
    numbers = {WEIGHT, *([] if is_text else questions)}
    with path.open("rb") as file:
        encoding = "utf-16" if file.read(2) in UTF_16 else "utf8"
    try:
        table = arrow.open_csv(
            note_read(path),
            read_options=arrow.ReadOptions(use_threads=False, column_names=header, skip_rows=1, encoding=encoding),
            parse_options=arrow.ParseOptions(delimiter=separator),
            convert_options=arrow.ConvertOptions(
                include_columns=list(names.values()), null_values=["", " ", "NA", "NaN", "nan"], strings_can_be_null=True,
                column_types={name: pa.float64() if key in numbers else pa.string() for key, name in names.items()},
            ),
        ).read_all()  # fmt: skip
    except (pa.ArrowInvalid, OSError) as error:
        reason = re.sub(r"Row #(\d+)", r"line \1", " ".join(str(error).split()))
        told = f"{path}: {reason[:300]}; every row needs as many fields as the header: fetch the file again, or write it without row names"
        if where := re.search(r"column #(\d+).*line (\d+).*invalid value '(.*)'", reason):
            told = f"{path}, line {where[2]}, column '{header[int(where[1])]}': expected a number, found '{where[3]}'. Take the CSV as "
            told += "published: codes, not labels, and a decimal point"
        raise DataError(told) from error
    if not table.num_rows:
        raise DataError(f"{path}: a header and no respondent below it: fetch the file again")
    table = table.rename_columns([*names]).append_column("line", pa.array(range(2, table.num_rows + 2)))
    if COUNTRY in names and countries:
        table = table.filter(pc.is_in(table[COUNTRY], pa.array([*countries])))
    frame = table.to_pandas().set_index("line").rename(columns={COUNTRY: "country", WEIGHT: "weight"})
    if "country" not in frame:
        named = [code for code, name in countries.items() if name.replace(" ", "_").casefold() in path.name.casefold()]
        if len(named) != 1:
            known = ", ".join(countries.values())
            raise DataError(f"{path}: no column {COUNTRY}, and the file's name is not that of one of {known}")
        frame["country"] = named[0]
    return frame.reindex(columns=["country", "weight", NUMBER, UNIT, *(key for key in questions if key in names)])


def _find_columns(path: Path, header: list[str], questions: Sequence[str]) -> dict[str, str]:
    """Key (variable name without a label behind it, upper case) to the column's name in the file."""
    keys = [re.match(r"\w*", name)[0].upper() for name in header]
    turned = [key for key in keys if re.fullmatch(r"Q\d+P", key) and key[:-1] not in keys]
    twice, few = [key for key in (COUNTRY, WEIGHT, NUMBER, UNIT, *questions) if keys.count(key) > 1], len(header) < 3
    faults = {
        f"one column, read with {', '.join(SEPARATORS.values())} as separator; expected {COUNTRY}, {WEIGHT} and Q1 ...": few,
        f"column {', '.join(turned[:3])} and none without P: {TURNED}": turned,
        f"none of our questions ({questions[0]} ...) is a column of {OTHER_WAVES}": not {*questions} & {*keys},
        f"no column {WEIGHT}, without which shares are not the country's": WEIGHT not in keys,
        f"column {', '.join(twice[:3])} stands twice in the header": twice,
    }
    if why := next((why for why, is_so in faults.items() if is_so), ""):
        raise DataError(f"{path}, line 1: {why}. Take the cross-national CSV of wave 7 as published")
    return dict(zip(keys, header, strict=True))


def _leave_out(frame: pd.DataFrame, name: str) -> tuple[pd.DataFrame, list[str]]:
    """Respondents with a weight, since nothing says how much others stand for, and one of rows alike in everything read; what went, counted.

    Two people under one number stay two.
    """
    bad = frame.loc[(frame["weight"] < 0) | np.isinf(frame["weight"]), "weight"]
    if len(bad):
        path, line = bad.index[0]
        found = f"expected a weight above 0, found {bad.iloc[0]:g}; {len(bad)} such rows"
        raise DataError(f"{path}, line {line}, column '{WEIGHT}': {found}: fetch the file again")
    gone = frame.loc[~(frame["weight"] > 0), "country"].value_counts(sort=False)
    notes = [f"{name}: {count} respondents of {country} without a weight left out" for country, count in gone.items()]
    frame = frame[frame["weight"] > 0]
    copies = frame.duplicated() & frame[NUMBER].notna()
    if copies.any():
        notes.append(f"{name}: {copies.sum()} rows that repeat another row with the same {NUMBER} left out")
    frame = frame[~copies]
    shared = frame.loc[frame.duplicated(["country", NUMBER], keep=False) & frame[NUMBER].notna(), NUMBER]
    if len(shared):
        some = ", ".join(shared.unique()[:3])
        notes.append(f"{name}: {len(shared)} rows share a {NUMBER} ({some}) and differ: kept as different people")
    return frame, notes


# How firm the human side is: people drawn anew, dealt into halves, and the choice of items made again.


def describe_people(cfg: Config, human: Human) -> pd.DataFrame:
    """Mean answer of every country on every item, with its interval.

    With respondents the interval is a bootstrap over them (over primary sampling units where the file has them, so that it holds the
    design's clustering; one unit fewer is drawn than there are, so that the spread is not too small: Rao, Wu and Yue 1992; the file names
    no strata); without, shares are drawn anew (multinomial) at the file's n or the culture's `survey_n`. Returns `question, culture,
    value` (0 = first point of the scale, 1 = last), `low, high, n, n_effective, interval` (in words).
    """
    (drawn,) = draw_shares(cfg, human, draws=cfg.profile.stats.resamples)
    tail = (1 - cfg.profile.stats.level) / 2
    rows = []
    for (question, culture), part in human.shares.groupby(["question", "culture"], sort=False):
        points = np.linspace(0, 1, len(part))
        low, high = np.nanquantile(drawn[question, culture] @ points, [tail, 1 - tail])
        rows.append({
            "question": question, "culture": culture, "value": float(part["share"] @ points), "low": low, "high": high,
            "n": _size(cfg.cultures, part), "n_effective": part["n_effective"].iloc[0], "interval": _name_draws(cfg.cultures, human, part),
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
    first, second = draw_shares(cfg, human, draws=1, halves=True)
    parts = [
        pd.DataFrame({"question": key[0], "culture": key[1], "half": half, "code": codes[key[0]], "share": shares[key][0]})
        for key in first
        for half, shares in enumerate((first, second), start=1)
    ]
    return pd.concat(parts, ignore_index=True)


def draw_choice(cfg: Config, human: Human, pair: Pair) -> pd.DataFrame:
    """Choose the items on which two cultures differ most again from answers drawn anew, the weights kept.

    Returns whether a question is chosen in a draw, shape (CHOICES, questions); the columns by falling distance in the data themselves, so
    that the first are the original choice. The mean of a column is how often that item is chosen.
    """
    frame = rank_items(human.shares, pair, wanted=cfg.profile.survey.high_tension)
    if pair is None:
        return pd.DataFrame(columns=frame["question"])
    ranked, size = frame["question"], int(frame["chosen"].sum())
    (drawn,) = draw_shares(cfg, human, draws=CHOICES)
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
    drawn = "; ".join(f"{one}: {_name_draws(cfg.cultures, human, own[one])}" for one in pair)
    return (
        f"{size} of {chosen.shape[1]} items are chosen (the profile asks for {wanted}; at most a third of the items there are, or "
        f"{FEWEST} where these are no more than half); {kept.mean():.1f} of them stay on average when both countries' answers are drawn anew {len(kept)} times "
        f"({drawn}), 95 % of the draws keep {low:.0f} to {high:.0f}."
        + (" Fifty need the official cross-national file." if size < wanted else "")
    )


def draw_shares(cfg: Config, human: Human, *, draws: int, halves: bool = False) -> list[dict[tuple[str, str], np.ndarray]]:
    """By question and culture: distributions drawn anew, shape (draws, k), NaN in a draw without an answer; a respondent's stay together.

    One such mapping, or with `halves` two, of two random halves of the people.
    """
    sides: list[dict] = [{}, {}] if halves else [{}]
    for number, (culture, part) in enumerate(human.shares.groupby("culture", sort=False)):
        rng, part = np.random.default_rng([cfg.profile.seed, number]), part.reset_index(drop=True)
        items = dict(tuple(part.groupby("question", sort=False)))
        if human.respondents is None:
            sums = [
                {
                    one: rng.multinomial((_size(cfg.cultures, own) + place) // len(sides), own["share"], size=draws)
                    for one, own in items.items()
                }
                for place in range(len(sides))
            ]
        else:
            people = human.respondents.answers
            people = people[people["country"] == cfg.cultures[culture].survey_country]
            # Weight of every answer (a column), summed per unit that is drawn (a row).
            chosen = (people["weight"] * (people[row.question] == row.code) for row in part.itertuples())
            totals = np.column_stack([np.bincount(people["unit"], weights) for weights in chosen])
            n = len(totals)
            if halves:
                picked = rng.permuted(np.tile(np.arange(n) % 2, (draws, 1)), axis=1).astype(float)
            else:  # Rao, Wu and Yue: units less one, with replacement
                picked = rng.multinomial(n - 1, np.full(n, 1 / n), size=draws).astype(float)
            drawn = [often @ totals for often in ([picked, 1 - picked] if halves else [picked])]
            sums = [{one: side[:, own.index] for one, own in items.items()} for side in drawn]
        for side, own in zip(sides, sums, strict=True):
            with np.errstate(invalid="ignore"):  # of a draw without an answer
                side |= {(one, culture): given / given.sum(axis=1, keepdims=True) for one, given in own.items()}
    return sides


def _size(cultures: Mapping[str, Culture], part: pd.DataFrame) -> int:
    """The file's n of one item in one culture, or the culture's `survey_n`."""
    n = part["n"].iloc[0]
    return cultures[part["culture"].iloc[0]].survey_n if np.isnan(n) else int(n)


def _name_draws(cultures: Mapping[str, Culture], human: Human, part: pd.DataFrame) -> str:
    culture = cultures[part["culture"].iloc[0]]
    if human.respondents is not None:
        return f"bootstrap over {human.respondents.units[culture.survey_country]}, weighted"
    return "multinomial draws " + ("at the file's n" if part["n"].notna().all() else f"as if n = {culture.survey_n}")
