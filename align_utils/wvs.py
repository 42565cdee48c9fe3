"""The survey: our items, and the human answer distributions they are compared with."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml

from align_utils.config import Config
from align_utils.tables import DataError, find_file, parse_numbers, read_table

# Shares rounded to 0.01 may miss 1 by their rounding; more means that options are missing (a copy that was damaged on the way).
SUM_LOW, SUM_HIGH = 0.97, 1.03
AGGREGATED = ["distributions*.csv"]
MICRODATA = ["WVS_Cross-National_Wave_7*csv*.csv"]


def load_items(folder: Path) -> pd.DataFrame:
    """Read the instrument.

    Parameters
    ----------
    folder : Path
        `data/survey`: `items.csv` (`question, topic, scale, text_<language>`) and `scales.yaml` (codes in the scale's order and
        labels per language).

    Returns
    -------
    DataFrame
        `question, topic, scale, text_<language>`, `codes` (list of int), `labels_<language>` (list of str).

    Raises
    ------
    DataError
        An unknown scale, a label twice, labels and codes of different number, an item twice or an empty text.
    """
    path = folder / "items.csv"
    scales = yaml.safe_load((folder / "scales.yaml").read_text(encoding="utf-8"))
    languages = sorted({key for scale in scales.values() for key in scale if key != "codes"})
    texts = [f"text_{language}" for language in languages]
    items = read_table(path, ["question", "topic", "scale", *texts])
    for line, row in items.iterrows():
        if row["scale"] not in scales:
            raise DataError(f"{path}, line {line}: scale '{row['scale']}' is not in scales.yaml")
        if any(row[text] == "" for text in texts):
            raise DataError(f"{path}, line {line}: {row['question']} has an empty text")
    for name, scale in scales.items():
        for language in languages:
            labels = scale.get(language, [])
            if len(labels) != len(scale["codes"]) or len(set(labels)) != len(labels):
                raise DataError(f"{folder / 'scales.yaml'}: scale '{name}', '{language}': one distinct label a code, please")
    twice = items.index[items.duplicated("question")]
    if len(twice):
        raise DataError(f"{path}, line {twice[0]}: {items.loc[twice[0], 'question']} stands twice")
    items["codes"] = items["scale"].map(lambda name: scales[name]["codes"])
    for language in languages:
        items[f"labels_{language}"] = items["scale"].map(lambda name, language=language: scales[name][language])
    return items.reset_index(drop=True)


def load_distributions(cfg: Config, items: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    """Human answer distributions of the run's countries for the items that are sound in all of them.

    Parameters
    ----------
    items : DataFrame
        From `load_items`.

    Returns
    -------
    shares : DataFrame
        `question, culture, code, share, n`; per question and culture the codes of the item in scale order, shares sum to 1.
    rejected : DataFrame
        `question, reason` of items that the file has but that cannot be used.
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
    present = set(shares["question"])
    for item in items[items["question"].isin(present)].itertuples():
        part = shares[shares["question"] == item.question]
        reason = _judge_item(part, item.codes, list(countries))
        if reason:
            rejected.append({"question": item.question, "reason": reason})
            continue
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


def _judge_item(part: pd.DataFrame, codes: list[int], countries: list[str]) -> str:
    """Reason to reject an item, or an empty string: every country's shares near 1 and only the scale's codes."""
    for country in countries:
        rows = part[part["country"] == country]
        if rows.empty:
            return f"no answers from {country}"
        total = round(rows["share"].sum(), 6)  # shares have two decimals: 0.97 must not fail by a float
        if not SUM_LOW <= total <= SUM_HIGH:
            return f"shares of {country} sum to {total:.2f}"
        seen, expected = set(rows["answer"]), set(codes)
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
    """Weighted shares (W_WEIGHT) of the official cross-national file; codes below 0 are missing."""
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
    known = items.set_index("question")["codes"]
    valid = {(question, code) for question in questions for code in known[question]}
    long = long[[pair in valid for pair in zip(long["question"], long["answer"], strict=True)]]
    counts = long.groupby(["question", "country", "answer"])["W_WEIGHT"].sum().rename("weight").reset_index()
    counts["share"] = counts["weight"] / counts.groupby(["question", "country"])["weight"].transform("sum")
    respondents = long.groupby(["question", "country"]).size().rename("n").reset_index()
    return counts.merge(respondents).astype({"answer": int, "n": float})
