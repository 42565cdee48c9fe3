"""The survey: our items, and the human answer distributions they are compared with."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml

from align_utils.config import Config
from align_utils.tables import DataError, find_file, parse_numbers, read_table
from align_utils.wording import read_wording

# Shares rounded to 0.01 may miss 1 by their rounding; more means that options are missing (a copy that was damaged on the way).
SUM_LOW, SUM_HIGH = 0.97, 1.03
AGGREGATED = ["distributions*.csv"]
MICRODATA = ["WVS_Cross-National_Wave_7*csv*.csv"]
# What a scale holds besides its labels by language.
SCALE_KEYS = ("codes", "recode", "drop", "direction")


def choose_items(cfg: Config, *, nominal: bool = False) -> pd.DataFrame:
    """The items that the profile asks (`survey.items`), worded as it says (`survey.wording`).

    Parameters
    ----------
    nominal : bool, default False
        Also the items without an order, which the cultural map needs; no distance on a scale may be taken of them.

    Returns
    -------
    DataFrame
        As from `load_items`, with `wording`: 'ours', 'file' (`<data>/wvs/questions.csv`), or 'ours: <why the file's was refused>'.

    Raises
    ------
    DataError
        As `load_items` and `wording.read_wording`.
    """
    survey = cfg.profile.survey
    items = load_items(cfg.root / "data" / "survey", choice=survey.items, nominal=nominal)
    if survey.wording == "ours":
        return items.assign(wording="ours")
    return read_wording(cfg.data_dir / "wvs" / "questions.csv", items)


def load_items(folder: Path, *, choice: str = "core", nominal: bool = False) -> pd.DataFrame:
    """Read the instrument.

    Parameters
    ----------
    folder : Path
        `data/survey`: `items.csv` (`question, topic, kind, core, scale, text_<language>`) and `scales.yaml` (codes in the
        scale's order, labels per language, and what its head explains).
    choice : {'core', 'all'}, default 'core'
        The 60 items for which the bundled sample has shares, or all 233.
    nominal : bool, default False
        Also the items of kind 'nominal', in either choice.

    Returns
    -------
    DataFrame
        `question, topic, kind, core, scale, text_<language>`, `codes` (list of int, in the scale's order), `recode` (dict of
        int), `drop` (list of int), `direction` ('high_to_low', 'low_to_high' or ''), `labels_<language>` (list of str).

    Raises
    ------
    DataError
        An unknown scale, kind, flag or direction; labels and codes of different number, a label or a code twice; an item or a
        sentence twice; an empty text.

    Examples
    --------
    >>> from align_utils import config
    >>> folder = config.PACKAGE_ROOT / "data" / "survey"
    >>> len(load_items(folder)), len(load_items(folder, choice="all")), len(load_items(folder, choice="all", nominal=True))
    (60, 233, 235)
    """
    path = folder / "items.csv"
    scales = yaml.safe_load((folder / "scales.yaml").read_text(encoding="utf-8"))
    languages = sorted({key for scale in scales.values() for key in scale if key not in SCALE_KEYS})
    for name, scale in scales.items():
        _check_scale(f"{folder / 'scales.yaml'}: scale '{name}'", scale, languages)
    texts = [f"text_{language}" for language in languages]
    items = read_table(path, ["question", "topic", "kind", "core", "scale", *texts])
    for column, known in {"scale": scales, "kind": ("ordered", "nominal"), "core": ("yes", "no")}.items():
        for line in items.index[~items[column].isin(list(known))]:
            raise DataError(f"{path}, line {line}: {column} '{items.loc[line, column]}' is none of {', '.join(known)}")
    for column in ["question", *texts]:
        for line in items.index[items[column] == ""]:
            raise DataError(f"{path}, line {line}: {items.loc[line, 'question']} has an empty {column}")
        for line in items.index[items.duplicated(column)]:
            raise DataError(f"{path}, line {line}: {items.loc[line, column]} stands twice in column {column}")
    empty = {"recode": {}, "drop": [], "direction": ""}
    for key in [*SCALE_KEYS, *languages]:
        column = key if key in SCALE_KEYS else f"labels_{key}"
        items[column] = [scales[name].get(key, empty.get(key)) for name in items["scale"]]
    items["core"] = items["core"] == "yes"
    ordered = items["kind"] == "ordered"
    return items[(ordered & (items["core"] | (choice == "all"))) | (~ordered & nominal)].reset_index(drop=True)


def _check_scale(place: str, scale: dict, languages: list[str]) -> None:
    codes, gone = scale["codes"], [*scale.get("recode", {}), *scale.get("drop", [])]
    if len({*codes, *gone}) != len(codes) + len(gone) or not set(scale.get("recode", {}).values()) <= set(codes):
        raise DataError(f"{place}: each code once in codes, recode or drop, and recode into codes, please")
    if scale.get("direction", "high_to_low") not in {"high_to_low", "low_to_high"}:
        raise DataError(f"{place}: direction '{scale['direction']}' is neither high_to_low nor low_to_high")
    for language in languages:
        labels = scale.get(language, [])
        if len(labels) != len(codes) or len({*labels, ""}) != len(labels) + 1:
            raise DataError(f"{place}, '{language}': one distinct label a code, please")


def load_distributions(cfg: Config, items: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    """Human answer distributions of the run's countries for the items that are sound in all of them.

    Parameters
    ----------
    items : DataFrame
        From `choose_items`; their `recode` and `drop` are applied to the file's codes.

    Returns
    -------
    shares : DataFrame
        `question, culture, code, share, n`; per question and culture the codes of the item in scale order, shares sum to 1.
    rejected : DataFrame
        `question, reason` of items that cannot be used: not in the file, or damaged in it.
    path : Path
        The file read.

    Raises
    ------
    DataError
        No survey file, a joint or trend file, or no usable item.
    """
    folder = cfg.data_dir / "wvs"
    countries = {culture.survey_country: name for name, culture in cfg.cultures.items()}
    microdata, aggregated = find_file(folder, MICRODATA), find_file(folder, AGGREGATED)
    if microdata is not None:
        path, shares = microdata, _count_microdata(microdata, list(countries), items)
    elif aggregated is not None:
        path, shares = aggregated, _read_aggregated(aggregated)
    else:
        raise DataError(
            f"{folder}: no survey file; expected {', '.join([*MICRODATA, *AGGREGATED])}. Source: worldvaluessurvey.org, wave 7 "
            "(free registration); set ALIGN_DATA=<folder>"
        )
    shares = shares[shares["country"].isin(countries)]
    kept, rejected = [], []
    for item in items.itertuples():
        part = shares[shares["question"] == item.question]
        reason = _judge_item(part, item, list(countries)) if len(part) else f"not in {path.name}"
        if reason:
            rejected.append({"question": item.question, "reason": reason})
            continue
        part = part.assign(answer=part["answer"].replace(item.recode))
        wide = part.pivot_table(index="country", columns="answer", values="share", aggfunc="sum").reindex(columns=item.codes)
        wide = wide.fillna(0.0)
        wide = wide.div(wide.sum(axis=1), axis=0)
        n = part.groupby("country")["n"].first()
        for country, row in wide.iterrows():
            kept += [
                {"question": item.question, "culture": countries[country], "code": code, "share": row[code], "n": n[country]}
                for code in item.codes
            ]
    if not kept:
        raise DataError(f"{path}: none of our {len(items)} items is usable in all of {', '.join(countries)}")
    return pd.DataFrame(kept), pd.DataFrame(rejected, columns=["question", "reason"]), path


def _judge_item(part: pd.DataFrame, item: tuple, countries: list[str]) -> str:
    """Reason to reject an item, or an empty string: every country's shares near 1 and only codes that the scale knows."""
    for country in countries:
        rows = part[part["country"] == country]
        if rows.empty:
            return f"no answers from {country}"
        total = round(rows["share"].sum(), 6)  # shares have two decimals: 0.97 must not fail by a float
        if not SUM_LOW <= total <= SUM_HIGH:
            return f"shares of {country} sum to {total:.2f}"
        seen = set(rows["answer"].replace(item.recode)) - set(item.drop)
        expected = set(item.codes)
        if seen - expected:
            return f"{country} has codes {sorted(seen - expected)} outside the scale"
        if rows["n"].isna().all() and len(seen) < len(expected):
            return f"{country} lacks codes {sorted(expected - seen)}"
    return ""


def _read_aggregated(path: Path) -> pd.DataFrame:
    frame = read_table(path, ["question", "country", "answer", "share"], optional=["n"])
    frame["share"] = parse_numbers(frame, "share", path, low=0, high=1)
    frame["answer"] = parse_numbers(frame, "answer", path, low=-9, high=99).astype(int)
    frame["n"] = parse_numbers(frame, "n", path, low=1, high=1e9) if "n" in frame else float("nan")
    twice = frame.index[frame.duplicated(["question", "country", "answer"])]
    if len(twice):
        raise DataError(f"{path}, line {twice[0]}: this question, country and answer stand twice")
    return frame


def _count_microdata(path: Path, countries: list[str], items: pd.DataFrame) -> pd.DataFrame:
    """Weighted shares (W_WEIGHT) of the official cross-national file; codes below 0 and dropped ones are missing."""
    header = pd.read_csv(path, nrows=0, encoding="utf-8-sig").columns
    if "B_COUNTRY_ALPHA" not in header or "W_WEIGHT" not in header:
        raise DataError(
            f"{path}: no B_COUNTRY_ALPHA and W_WEIGHT: not the cross-national wave-7 file (joint EVS/WVS and trend files use "
            "other question codes and cannot be used)"
        )
    questions = [q for q in items["question"] if q in header]
    columns = ["B_COUNTRY_ALPHA", "W_WEIGHT", *questions]
    frame = pd.read_csv(path, usecols=columns, encoding="utf-8-sig")
    frame = frame[frame["B_COUNTRY_ALPHA"].isin(countries)]
    long = frame.melt(["B_COUNTRY_ALPHA", "W_WEIGHT"], var_name="question", value_name="answer")
    long = long.rename(columns={"B_COUNTRY_ALPHA": "country"})
    long = long[long["answer"] >= 0]
    dropped = {(item.question, code) for item in items.itertuples() for code in item.drop}
    long = long[[pair not in dropped for pair in zip(long["question"], long["answer"], strict=True)]]
    counts = long.groupby(["question", "country", "answer"])["W_WEIGHT"].sum().rename("weight").reset_index()
    counts["share"] = counts["weight"] / counts.groupby(["question", "country"])["weight"].transform("sum")
    respondents = long.groupby(["question", "country"]).size().rename("n").reset_index()
    return counts.merge(respondents).astype({"answer": int, "n": float})
