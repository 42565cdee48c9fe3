"""What people answer: the survey's files, found and read into shares by country."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from align_utils.config.profiles import Config
from align_utils.store.ledger import note_read
from align_utils.store.textfiles import DataError, find_file, parse_numbers, read_table
from align_utils.survey.items import fold_label, read_label, read_options
from align_utils.survey.microdata import Respondents, count_answers, read_respondents

# Per question and culture the codes of the item in scale order; shares sum to 1. Without n a file has shares alone; `n_effective`
# is Kish's, from the weights.
SHARES = pa.DataFrameSchema({
    "question": pa.Column(),
    "culture": pa.Column(),
    "code": pa.Column(int),
    "share": pa.Column(float, pa.Check.in_range(0, 1 + 1e-9)),
    "n": pa.Column(float, pa.Check.gt(0), nullable=True),
    "n_effective": pa.Column(float, pa.Check.gt(0), nullable=True),
})  # fmt: skip
# Shares rounded to 0.01 may miss 1 by their rounding; more means that options are missing (a copy that was damaged on the way).
SUM_LOW, SUM_HIGH = 0.97, 1.03
CROSS_NATIONAL = ["*WVS_Cross-National_Wave_7*.csv"]
AGGREGATED = ["distributions*.csv"]
GLOBAL_OPINIONS = ["global_opinions*.csv"]
OTHERS = ["*Joint*.csv", "*Trend*.csv", "*TimeSeries*.csv", "*Time_Series*.csv", "*WV[1-6]*.csv", "*Wave_[1-6]*.csv"]
# A country's respondents may stand under its name alone or marked as the current national sample; other samples are not the country's.
NATIONAL = " (Current national sample)"


@dataclass(frozen=True)
class Human:
    """What people of the run's countries answered.

    Attributes
    ----------
    shares : DataFrame
        SHARES.
    respondents : Respondents or None
        The people behind the shares, their codes repaired like the shares'; None where the file has shares alone.
    rejected : DataFrame
        `question, reason` of items that cannot be used: not in the file, or damaged in it. Repairs of the file as a whole stand
        there too, counted, as the question '(file)'.
    """

    shares: pd.DataFrame
    respondents: Respondents | None = None
    rejected: pd.DataFrame = field(default_factory=pd.DataFrame)

    def take(self, items: pd.DataFrame) -> Human:
        """The same people, their shares of these items alone."""
        return replace(self, shares=self.shares[self.shares["question"].isin(items["question"])])


def load_human(cfg: Config, items: pd.DataFrame) -> Human:
    """Read the human side once: the run's countries, and the items that are sound in all of them.

    Parameters
    ----------
    items : DataFrame
        From `choose_items`; their `recode` and `drop` are applied to the file's codes.

    Raises
    ------
    DataError
        No survey file, a joint or trend file, no usable item, or what `read_respondents` and `read_global_opinions` raise.
    """
    countries = {culture.survey_country: name for name, culture in cfg.cultures.items()}
    names = _name_countries(cfg)
    paths, kind = _find_source(cfg)
    people, refused, notes = None, {}, []
    if kind == "respondents":
        people = read_respondents(paths, names, items["question"].tolist(), _list_labels(cfg))
        shares, refused, notes = count_answers(people, items), people.refused, people.repairs
        for item in items.itertuples():
            if item.recode and item.question in people.answers:
                people.answers[item.question] = people.answers[item.question].replace(item.recode)
    elif kind == "opinions":
        options = _read_options(cfg)
        shares, refused = read_global_opinions(paths[0], names, options[options["question"].isin(items["question"])])
    else:
        shares, notes = _read_aggregated(paths[0])
    shares = shares.reindex(columns=["question", "country", "answer", "share", "n", "n_effective"])
    given = {key: list(part.itertuples()) for key, part in shares.groupby(["question", "country"], sort=False)}
    kept, rejected = [], [("(file)", note) for note in notes]
    for item in items.itertuples():
        found = {country: given.get((item.question, country), []) for country in countries}
        absent = "" if any(found.values()) else f"not in {paths[0].name}"
        if reason := refused.get(item.question) or absent or _judge_item(found, item):
            rejected.append((item.question, reason))
            continue
        for country, culture in sorted(countries.items()):
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
        raise DataError(f"{paths[0]}: none of our {len(items)} items is usable in all of {', '.join(countries)}{first}")
    shares = SHARES.validate(pd.DataFrame(kept, columns=list(SHARES.columns)))
    return Human(shares, people, pd.DataFrame(rejected, columns=["question", "reason"]))


def load_world(cfg: Config, items: pd.DataFrame) -> Respondents | None:
    """Respondents of all countries of the cross-national file, in the file's codes; None where there is no such file."""
    path = find_file(cfg.data_dir / "wvs", CROSS_NATIONAL)
    return read_respondents([path], {}, items["question"].tolist(), _list_labels(cfg)) if path else None


def _find_source(cfg: Config) -> tuple[list[Path], str]:
    """Files of the human side in order of preference, and what they hold: respondents, shares or opinions."""
    folder = cfg.data_dir / "wvs"
    if path := find_file(folder, CROSS_NATIONAL):
        return [path], "respondents"
    names = [name.replace(" ", "_") for name in _name_countries(cfg).values()]
    if any(paths := [find_file(folder, [f"*Wave_7_{name}_*.csv"]) for name in names]):
        if None in paths:
            there, lacking = ", ".join(path.name for path in paths if path), names[paths.index(None)]
            raise DataError(f"{folder}: {there} but no *Wave_7_{lacking}_*.csv: every country, please")
        return paths, "respondents"
    for kind, patterns in {"shares": AGGREGATED, "opinions": GLOBAL_OPINIONS}.items():
        if path := find_file(folder, patterns):
            return [path], kind
    known = ", ".join([*CROSS_NATIONAL, "*Wave_7_<Country>_*.csv", *AGGREGATED, *GLOBAL_OPINIONS])
    if path := find_file(folder, OTHERS):
        raise DataError(
            f"{path}: a joint EVS/WVS, trend or other wave's file: its question codes are not those of wave 7 and it cannot be used; "
            f"expected {known}"
        )
    raise DataError(
        f"{folder}: no survey file; expected {known}. Source: worldvaluessurvey.org, wave 7 (free registration); set "
        "ALIGN_DATA=<folder>"
    )


def _name_countries(cfg: Config) -> dict[str, str]:
    return {culture.survey_country: culture.survey_name or culture.label for culture in cfg.cultures.values()}


def _read_options(cfg: Config) -> pd.DataFrame:
    path = cfg.data_dir / "wvs" / "questions.csv"
    return read_options(path) if path.is_file() else pd.DataFrame(columns=["question", "text", "labels"])


def _list_labels(cfg: Config) -> dict[str, dict[str, int]]:
    options = _read_options(cfg)
    return dict(zip(options["question"], options["labels"], strict=True))


def _judge_item(found: dict[str, list], item: tuple) -> str:
    """Reason to reject an item, or an empty string: every country's shares near 1 and only codes that the scale knows."""
    for country, rows in found.items():
        if not rows:
            return f"no answers from {country}"
        total = round(sum(row.share for row in rows), 6)  # shares have two decimals: 0.97 must not fail by a float
        if not SUM_LOW <= total <= SUM_HIGH:
            return f"shares of {country} sum to {total:.2f}"
        seen = {item.recode.get(row.answer, row.answer) for row in rows} - set(item.drop)
        expected = set(item.codes)
        if seen - expected:
            return f"{country} has codes {sorted(seen - expected)} outside the scale"
        if not sum(row.share for row in rows if row.answer not in item.drop) > 0:
            return f"nobody in {country} gave an answer on the scale"
        if len({str(row.n) for row in rows}) > 1:
            return f"{country} has different n in the rows of one question"
        if pd.isna(rows[0].n) and len(seen) < len(expected):
            return f"{country} lacks codes {sorted(expected - seen)}"
    return ""


def _read_aggregated(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The rows of answers on a scale, and what was repaired: codes below 0 (no answer) are left out of the shares."""
    frame = read_table(path, ["question", "country", "answer", "share"], optional=["n"])
    frame["share"] = parse_numbers(frame, "share", path, low=0, high=1)
    answers = parse_numbers(frame, "answer", path, low=-9, high=99)
    for line in answers.index[answers % 1 != 0]:
        raise DataError(f"{path}, line {line}, column 'answer': expected a whole code, found {frame.loc[line, 'answer']!r}")
    frame["answer"] = answers.astype(int)
    frame["n"] = parse_numbers(frame, "n", path, low=1, high=1e9) if "n" in frame else float("nan")
    for line in frame.index[frame.duplicated(["question", "country", "answer"])]:
        raise DataError(f"{path}, line {line}: this question, country and answer stand twice")
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
        raise DataError(f"{path}: {' '.join(str(error).split())}; fetch the file again") from error
    missing = [column for column in ("question", "selections", "options", "source") if column not in frame]
    if missing:
        raise DataError(f"{path}, line 1: column {', '.join(missing)} not found; the header holds: {', '.join(frame.columns)}")
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
    options = _parse(path, row, "options")
    codes = [read_label(str(option), labels) for option in options]
    if None in codes:
        return f"option '{options[codes.index(None)]}' is not in questions.csv"
    answers = [code for code in codes if code >= 0]
    if len(set(answers)) < max(len(answers), 2):
        return f"its {len(answers)} options are not two or more different answers"
    given, result = _parse(path, row, "selections"), []
    for country, name in countries.items():
        listed = given.get(name, given.get(name + NATIONAL))
        if not isinstance(listed, list) or len(listed) != len(codes):
            return f"{name} has {len(listed) if isinstance(listed, list) else 'no'} shares for {len(codes)} options"
        shares = pd.to_numeric(pd.Series(listed), errors="coerce")
        if not shares.between(0, 1).all() or not SUM_LOW <= round(shares.sum(), 6) <= SUM_HIGH:
            return f"shares of {name} sum to {shares.sum():.2f}"
        kept = [(code, share) for code, share in zip(codes, shares, strict=True) if code >= 0]
        total = sum(share for _, share in kept)
        if not total > 0:
            return f"nobody in {name} gave an answer"
        result += [(country, code, share / total) for code, share in kept]
    return result


def _parse(path: Path, row: pd.Series, column: str):
    text = row[column]
    if column == "selections":  # printed as defaultdict(<class 'list'>, {...})
        text = text[text.find("{") : text.rfind("}") + 1]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise DataError(
            f"{path}, row {row.name + 1} below the header, column '{column}': no Python literal: {row[column][:60]!r}; fetch the file again"
        ) from error
