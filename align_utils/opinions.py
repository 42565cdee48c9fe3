"""GlobalOpinionQA: shares a country without question numbers, matched to the survey's items by their official wording."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from align_utils.tables import DataError
from align_utils.wording import fold_label, read_label

COLUMNS = ["question", "selections", "options", "source"]
# A country's respondents may stand under its name alone or marked as the current national sample; other samples are not the country's.
NATIONAL = " (Current national sample)"


def read_opinions(path: Path, countries: Mapping[str, str], options: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read the World Values Survey's rows of `global_opinions.csv`.

    Parameters
    ----------
    path : Path
    countries : dict
        Code of the survey: the country's name.
    options : DataFrame
        Official wording (`question, text, labels`) from `wording.read_options`: it tells which row is which item.

    Returns
    -------
    shares : DataFrame
        `question, country, answer` (code), `share` (of the options that are answers; the others, such as "Don't know", left out).
    refused : dict
        Question: why its row cannot be used.

    Raises
    ------
    DataError
        Not that file, a cell that is no list or dictionary, or no row that matches the official wording.

    Source
    ------
    Durmus et al. (2023), Anthropic/llm_global_opinions, CC BY-NC-SA 4.0. It holds no weights and no n.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError, EOFError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}; fetch the file again") from error
    missing = [column for column in COLUMNS if column not in frame]
    if missing:
        raise DataError(f"{path}, line 1: column {', '.join(missing)} not found; the header holds: {', '.join(frame.columns)}")
    frame = frame[frame["source"] == "WVS"]
    rows = {text: part for text, part in frame.groupby(frame["question"].map(fold_label), sort=False) if text}
    shares, refused, matched = [], {}, 0
    for item in options.itertuples():
        found = rows.get(fold_label(item.text))
        matched += found is not None
        if found is None or len(found) > 1:
            refused[item.question] = f"its wording stands in {0 if found is None else len(found)} rows of {path.name}"
            continue
        row = found.iloc[0]
        codes, reason = _read_codes(path, row, item.labels)
        given = _parse(path, row, "selections") if not reason else {}
        for country, name in countries.items() if not reason else []:
            listed = given.get(name, given.get(name + NATIONAL))
            part, reason = _share_out(listed, codes, name)
            if reason:
                break
            shares.append(part.assign(question=item.question, country=country))
        if reason:
            refused[item.question] = reason
    if not matched:
        raise DataError(
            f"{path}: none of its {len(frame)} rows from the WVS has the wording of an item. It has no question numbers: put the official "
            f"English wording beside it as {path.parent / 'questions.csv'} (data/README.md)"
        )
    result = pd.concat([pd.DataFrame(columns=["answer", "share", "question", "country"]), *shares], ignore_index=True)
    result = result[~result["question"].isin(list(refused))]
    return result[["question", "country", "answer", "share"]].astype({"answer": int, "share": float}), refused


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


def _read_codes(path: Path, row: pd.Series, labels: dict) -> tuple[list, str]:
    options = _parse(path, row, "options")
    codes = [read_label(str(option), labels) for option in options]
    if None in codes:
        return [], f"option '{options[codes.index(None)]}' is not in questions.csv"
    answers = [code for code in codes if code >= 0]
    if len(set(answers)) < max(len(answers), 2):
        return [], f"its {len(answers)} options are not two or more different answers"
    return codes, ""


def _share_out(listed, codes: list, name: str) -> tuple[pd.DataFrame, str]:
    if not isinstance(listed, list) or len(listed) != len(codes):
        return pd.DataFrame(), f"{name} has {len(listed) if isinstance(listed, list) else 'no'} shares for {len(codes)} options"
    part = pd.DataFrame({"answer": codes, "share": pd.to_numeric(pd.Series(listed), errors="coerce")})
    if not part["share"].between(0, 1).all() or not 0.97 <= round(part["share"].sum(), 6) <= 1.03:
        return pd.DataFrame(), f"shares of {name} sum to {part['share'].sum():.2f}"
    part = part[part["answer"] >= 0]
    if not part["share"].sum() > 0:
        return pd.DataFrame(), f"nobody in {name} gave an answer"
    return part.assign(share=part["share"] / part["share"].sum()), ""
