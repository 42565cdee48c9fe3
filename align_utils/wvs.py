"""The survey's human answers: the distributions that the models' are compared with, and the respondents themselves."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from align_utils import microdata, opinions
from align_utils.config import Config
from align_utils.tables import DataError, find_file, parse_numbers, read_table
from align_utils.wording import read_options

# Shares rounded to 0.01 may miss 1 by their rounding; more means that options are missing (a copy that was damaged on the way).
SUM_LOW, SUM_HIGH = 0.97, 1.03
CROSS_NATIONAL = ["*WVS_Cross-National_Wave_7*.csv"]
AGGREGATED = ["distributions*.csv"]
OPINIONS = ["global_opinions*.csv"]
OTHERS = ["*Joint*.csv", "*Trend*.csv", "*TimeSeries*.csv", "*Time_Series*.csv", "*WV[1-6]*.csv", "*Wave_[1-6]*.csv"]


def load_distributions(cfg: Config, items: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    """Human answer distributions of the run's countries for the items that are sound in all of them.

    Parameters
    ----------
    items : DataFrame
        From `choose_items`; their `recode` and `drop` are applied to the file's codes.

    Returns
    -------
    shares : DataFrame
        `question, culture, code, share, n, n_effective`; per question and culture the codes of the item in scale order, shares sum
        to 1. `n_effective` is Kish's, from the weights; NaN where the file has shares alone.
    rejected : DataFrame
        `question, reason` of items that cannot be used: not in the file, or damaged in it. Repairs of the file as a whole stand
        there too, counted, as the question '(file)'.
    path : Path
        The file read (of several, one a country, the first).

    Raises
    ------
    DataError
        No survey file, a joint or trend file, no usable item, or what `microdata.read_respondents` and `opinions.read_opinions` raise.
    """
    countries = {culture.survey_country: name for name, culture in cfg.cultures.items()}
    paths, kind = _find_source(cfg)
    refused: dict[str, str] = {}
    notes: list[str] = []
    if kind == "respondents":
        people = load_respondents(cfg, items)
        shares, refused, notes = microdata.count_answers(people, items), people.refused, people.repairs
    elif kind == "opinions":
        options = _read_options(cfg)
        shares, refused = opinions.read_opinions(
            paths[0], _name_countries(cfg), options[options["question"].isin(items["question"])]
        )
    else:
        shares, notes = _read_aggregated(paths[0])
    shares = shares.reindex(columns=["question", "country", "answer", "share", "n", "n_effective"])
    rows: dict = {}
    for row in shares[shares["country"].isin(list(countries))].itertuples(index=False):
        rows.setdefault(row.question, {}).setdefault(row.country, []).append(row)
    kept, rejected = [], [{"question": "(file)", "reason": note} for note in notes]
    for item in items.itertuples():
        found = rows.get(item.question)
        reason = refused.get(item.question) or (
            _judge_item(found, item, list(countries)) if found else f"not in {paths[0].name}"
        )
        if reason:
            rejected.append({"question": item.question, "reason": reason})
            continue
        for country, name in sorted(countries.items()):
            mass = dict.fromkeys(item.codes, 0.0)
            for row in found[country]:
                code = item.recode.get(row.answer, row.answer)
                mass |= {code: mass[code] + row.share} if code in mass else {}
            total, first = sum(mass.values()), found[country][0]
            kept += [(item.question, name, code, mass[code] / total, first.n, first.n_effective) for code in item.codes]
    if not kept:
        # The first that is in the file: that others are not tells little.
        told = sorted(
            (row for row in rejected if row["question"] != "(file)"), key=lambda row: row["reason"].startswith("not in ")
        )
        first = f" (of {told[0]['question']}: {told[0]['reason']})" if told else ""
        raise DataError(f"{paths[0]}: none of our {len(items)} items is usable in all of {', '.join(countries)}{first}")
    columns = ["question", "culture", "code", "share", "n", "n_effective"]
    return pd.DataFrame(kept, columns=columns), pd.DataFrame(rejected, columns=["question", "reason"]), paths[0]


def load_respondents(cfg: Config, items: pd.DataFrame, *, everyone: bool = False) -> microdata.Respondents | None:
    """The people behind the shares, for what needs them (intervals, half-samples); None where the file has shares alone.

    Parameters
    ----------
    items : DataFrame
        From `choose_items`: the questions read. Errors as in `load_distributions`.
    everyone : bool, default False
        All countries of the cross-national file, not the run's alone; None where there is no such file.
    """
    paths, kind = _find_source(cfg)
    if kind != "respondents" or (everyone and find_file(cfg.data_dir / "wvs", CROSS_NATIONAL) is None):
        return None
    options = _read_options(cfg)
    labels = dict(zip(options["question"], options["labels"], strict=True))
    return microdata.read_respondents(paths, {} if everyone else _name_countries(cfg), items["question"].tolist(), labels)


def _find_source(cfg: Config) -> tuple[list[Path], str]:
    """Files of the human side in order of preference, and what they hold: respondents, shares or opinions."""
    folder = cfg.data_dir / "wvs"
    if path := find_file(folder, CROSS_NATIONAL):
        return [path], "respondents"
    names = [name.replace(" ", "_") for name in _name_countries(cfg).values()]
    if any(paths := [find_file(folder, [f"*Wave_7_{name}_*.csv"]) for name in names]):
        lacking = [name for name, path in zip(names, paths, strict=True) if path is None]
        if lacking:
            raise DataError(
                f"{folder}: {', '.join(p.name for p in paths if p)} but no *Wave_7_{lacking[0]}_*.csv: every country, please"
            )
        return paths, "respondents"
    for kind, patterns in {"shares": AGGREGATED, "opinions": OPINIONS}.items():
        if path := find_file(folder, patterns):
            return [path], kind
    known = [*CROSS_NATIONAL, "*Wave_7_<Country>_*.csv", *AGGREGATED, *OPINIONS]
    if path := find_file(folder, OTHERS):
        raise DataError(
            f"{path}: a joint EVS/WVS, trend or other wave's file: its question codes are not those of wave 7 and it cannot be used; "
            f"expected {', '.join(known)}"
        )
    raise DataError(
        f"{folder}: no survey file; expected {', '.join(known)}. Source: worldvaluessurvey.org, wave 7 (free registration); set "
        "ALIGN_DATA=<folder>"
    )


def _name_countries(cfg: Config) -> dict[str, str]:
    return {culture.survey_country: culture.survey_name or culture.label for culture in cfg.cultures.values()}


def _read_options(cfg: Config) -> pd.DataFrame:
    path = cfg.data_dir / "wvs" / "questions.csv"
    return read_options(path) if path.is_file() else pd.DataFrame(columns=["question", "text", "labels"])


def _judge_item(found: dict, item: tuple, countries: list[str]) -> str:
    """Reason to reject an item, or an empty string: every country's shares near 1 and only codes that the scale knows."""
    for country in countries:
        rows = found.get(country, [])
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
    if len(parts := answers.index[answers % 1 != 0]):
        raise DataError(
            f"{path}, line {parts[0]}, column 'answer': expected a whole code, found {frame.loc[parts[0], 'answer']!r}"
        )
    frame["answer"] = answers.astype(int)
    frame["n"] = parse_numbers(frame, "n", path, low=1, high=1e9) if "n" in frame else float("nan")
    twice = frame.index[frame.duplicated(["question", "country", "answer"])]
    if len(twice):
        raise DataError(f"{path}, line {twice[0]}: this question, country and answer stand twice")
    missing = frame["answer"] < 0
    if not missing.any():
        return frame, []
    gone = frame["share"].where(missing, 0.0).groupby([frame["question"], frame["country"]]).transform("sum")
    frame["share"] /= (1 - gone).where(gone < 1, 1.0)
    kept = frame[~missing]
    return kept, [
        f"{missing.sum()} rows of codes below 0 (no answer) left out, the other shares of their questions made to match"
    ]
