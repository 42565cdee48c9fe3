"""The survey's instrument: our items with their scales, and which of them a profile asks in which wording."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from align_utils.config import Config, read_yaml
from align_utils.tables import DataError, read_table
from align_utils.wording import read_wording

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
        As from `load_items`, with `wording`: 'ours', 'file' (`<data>/wvs/questions.csv`), or 'ours: <why not the file's>', which
        may be that there is none.

    Raises
    ------
    DataError
        As `load_items` and `wording.read_wording`.
    """
    survey = cfg.profile.survey
    items = load_items(cfg.root / "data" / "survey", choice=survey.items, nominal=nominal)
    path = cfg.data_dir / "wvs" / "questions.csv"
    if survey.wording == "ours":
        aside = f": the profile asks in ours, survey.wording, and leaves wvs/{path.name} aside" if path.is_file() else ""
        return items.assign(wording="ours" + aside)
    return read_wording(path, items) if path.is_file() else items.assign(wording=f"ours: there is no wvs/{path.name}")


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
    scales = read_yaml(folder / "scales.yaml")
    languages = sorted(
        {key for scale in scales.values() for key in (scale if isinstance(scale, dict) else {}) if key not in SCALE_KEYS}
    )
    for name, scale in scales.items():
        _check_scale(f"{folder / 'scales.yaml'}: scale '{name}'", scale, languages)
    texts = [f"text_{language}" for language in languages]
    items = read_table(path, ["question", "topic", "kind", "core", "scale", *texts])
    for column, known in {"scale": scales, "kind": ("ordered", "nominal"), "core": ("yes", "no")}.items():
        for line in items.index[~items[column].isin(list(known))]:
            raise DataError(f"{path}, line {line}: {column} '{items.loc[line, column]}' is none of {', '.join(known)}")
    for line in items.index[~items["question"].str.fullmatch(r"Q[1-9]\d*[A-Z]?")]:
        raise DataError(
            f"{path}, line {line}: question '{items.loc[line, 'question']}' is not Q and the survey's number, such as Q57"
        )
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


def list_nominal(cfg: Config) -> set[str]:
    """Questions of the instrument whose options have no order: they are for the map alone, no scale may be taken of them."""
    items = load_items(cfg.root / "data" / "survey", choice="all", nominal=True)
    return set(items.loc[items["kind"] == "nominal", "question"])


def _check_scale(place: str, scale: dict, languages: list[str]) -> None:
    if not isinstance(scale, dict) or not isinstance(scale.get("codes"), list):
        raise DataError(f"{place}: expected `codes`, a list of the survey's codes")
    codes, gone = scale["codes"], [*scale.get("recode", {}), *scale.get("drop", [])]
    wrong = [code for code in (*codes, *gone) if not isinstance(code, int) or isinstance(code, bool)]
    if wrong:
        raise DataError(f"{place}: code {wrong[0]!r} is not a whole number")
    if len(codes) < 2:
        raise DataError(f"{place}: {len(codes)} code; a scale has two or more")
    if len({*codes, *gone}) != len(codes) + len(gone) or not set(scale.get("recode", {}).values()) <= set(codes):
        raise DataError(f"{place}: each code once in codes, recode or drop, and recode into codes, please")
    if scale.get("direction", "high_to_low") not in {"high_to_low", "low_to_high"}:
        raise DataError(f"{place}: direction '{scale['direction']}' is neither high_to_low nor low_to_high")
    for language in languages:
        labels = scale.get(language, [])
        if len(labels) != len(codes) or len({*labels, ""}) != len(labels) + 1:
            raise DataError(f"{place}, '{language}': one distinct label a code, please")
