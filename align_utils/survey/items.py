"""The survey's items: which are asked, and in whose words."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pandas as pd

from align_utils.config.profiles import Config, read_yaml
from align_utils.store.textfiles import DataError, read_table

# What a scale holds besides its labels by language.
SCALE_KEYS = ("codes", "recode", "drop", "direction")
# A translator's own statement, since no rule can tell a machine's translation from a person's by its letters.
ORIGINS = ("official", "own", "machine")
# Abbreviations in another script (WHO) are common in a sound text, a whole sentence in it is another language.
FOREIGN_SHARE = 0.1
# How the survey's files word what is no answer on a scale (folded, beginnings; `dk` and `na` whole).
MISSING = ("dontknow", "noanswer", "refused", "notapplicable", "inapplicable", "notasked", "missing", "othermissing")


def choose_items(cfg: Config, *, nominal: bool = False) -> pd.DataFrame:
    """The items that the profile asks (`survey.items`), worded as it says (`survey.wording`).

    Parameters
    ----------
    nominal : bool, default False
        Also the items without an order, which the cultural map needs; no distance on a scale may be taken of them.

    Returns
    -------
    DataFrame
        As from `load_items`, with `wording`: 'file' (`<data>/wvs/questions.csv`) or 'ours: <why not the file's>'.

    Raises
    ------
    DataError
        As `load_items` and `read_wording`.
    """
    survey = cfg.profile.survey
    items = load_items(cfg.root / "data" / "survey", choice=survey.items, nominal=nominal)
    path = cfg.data_dir / "wvs" / "questions.csv"
    if survey.wording == "ours":
        aside = f": the profile asks in ours, survey.wording, and leaves wvs/{path.name} aside" if path.is_file() else ""
        return items.assign(wording="ours" + aside)
    return read_wording(path, items) if path.is_file() else items.assign(wording=f"ours: there is no wvs/{path.name}")


def load_items(folder: Path, *, choice: str = "core", nominal: bool = False) -> pd.DataFrame:
    """Read the survey's items and scales.

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

    def refuse(wrong: pd.Series, told: str) -> None:
        for line in items.index[wrong]:
            raise DataError(f"{path}, line {line}: {told.format(**items.loc[line])}")

    for column, known in {"scale": scales, "kind": ("ordered", "nominal"), "core": ("yes", "no")}.items():
        refuse(~items[column].isin(list(known)), f"{column} '{{{column}}}' is none of {', '.join(known)}")
    numbered = items["question"].str.fullmatch(r"Q[1-9]\d*[A-Z]?")
    refuse(~numbered, "question '{question}' is not Q and the survey's number, such as Q57")
    for column in ["question", *texts]:
        refuse(items[column] == "", "{question} has an empty " + column)
        refuse(items.duplicated(column), f"{{{column}}} stands twice in column {column}")
    empty = {"recode": {}, "drop": [], "direction": ""}
    for key in [*SCALE_KEYS, *languages]:
        column = key if key in SCALE_KEYS else f"labels_{key}"
        items[column] = [scales[name].get(key, empty.get(key)) for name in items["scale"]]
    items["core"] = items["core"] == "yes"
    ordered = items["kind"] == "ordered"
    return items[(ordered & (items["core"] | (choice == "all"))) | (~ordered & nominal)].reset_index(drop=True)


def list_nominal(cfg: Config) -> set[str]:
    """Questions of all items whose options have no order: they are for the map alone, no scale may be taken of them."""
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


def read_wording(path: Path, items: pd.DataFrame) -> pd.DataFrame:
    """Put the reader's sentences and labels in place of ours, item by item, and say in `wording` whose they are.

    An item is taken from the file (`question, language, text, options, origin`) only if its rows are sound in every language, so that
    languages never differ in source. Options are `1. label | 2. label` with the survey's codes; a scale with numerals inside may give
    its ends alone. A sentence that says what 1 and 10 stand for is not sound: the descending order would contradict it.
    """
    rows = read_table(path, ["question", "language", "text", "options", "origin"])
    languages = [column.removeprefix("text_") for column in items.columns if column.startswith("text_")]
    scripts = {language: set(_list_scripts(" ".join(items[f"text_{language}"]))) for language in languages}
    written = {key: part.to_dict("records") for key, part in rows.groupby(["question", "language"], sort=False)}
    taken = []
    for item in items.to_dict("records"):
        new: dict = {"wording": "file"}
        for language in languages:
            found = written.get((item["question"], language), [])
            labels = _order_labels(found[0]["options"], item) if found else None
            if reason := _judge_rows(found, labels, scripts[language]):
                new = {"wording": f"ours: {language} {reason}"}
                break
            new |= {f"text_{language}": found[0]["text"], f"labels_{language}": labels}
        taken.append(item | new)
    return pd.DataFrame(taken)


def describe_wording(items: pd.DataFrame) -> str:
    """One sentence on `wording`: how many items stand in the file's words and how many in ours, and why.

    Examples
    --------
    >>> describe_wording(pd.DataFrame({"wording": ["file", "ours: zh has no text", "ours: en has no row", "ours: en has no row"]}))
    'Wording: 1 item in that of the file, 3 in ours (most often: en has no row, 2).'
    """
    taken = int((items["wording"] == "file").sum())
    reasons = items.loc[items["wording"].str.startswith("ours: "), "wording"].str.removeprefix("ours: ").value_counts()
    told = f" (most often: {reasons.index[0]}, {reasons.iloc[0]})" if len(reasons) else ""
    return f"Wording: {taken} item{'s' * (taken != 1)} in that of the file, {len(items) - taken} in ours{told}."


def read_options(path: Path) -> pd.DataFrame:
    """What the survey's English labels stand for, for files that hold labels in place of codes.

    Returns
    -------
    DataFrame
        `question, text`, `labels` (dict: label folded by `fold_label` to code), of rows with readable options, of any origin.
    """
    rows = read_table(path, ["question", "language", "text", "options"])
    rows = rows[rows["language"] == "en"].drop_duplicates("question", keep=False)
    rows["labels"] = [{fold_label(label): code for code, label in _split_options(text)} for text in rows["options"]]
    return rows.loc[rows["labels"].map(len) > 1, ["question", "text", "labels"]].reset_index(drop=True)


def read_label(text: str, labels: dict[str, int]) -> int | None:
    """Code of a label: -1 where it says that there is no answer, None where nothing explains it; a bare numeral is its own code.

    Examples
    --------
    >>> labels = {"agree": 1, "disagree": 2}
    >>> read_label("Agree", labels), read_label("2", labels), read_label("Don't know", labels), read_label("Perhaps", labels)
    (1, 2, -1, None)
    """
    folded = fold_label(text)
    if re.fullmatch(r"-?\d+", text.strip()):
        return max(int(text), -1)
    if folded in labels:
        return labels[folded]
    return -1 if folded in {"", "dk", "na"} or folded.startswith(MISSING) else None


def fold_label(text: str) -> str:
    """Letters and digits of a label or a question alone, in small letters, to compare by."""
    return "".join(letter for letter in unicodedata.normalize("NFKC", text).casefold() if letter.isalnum())


def _judge_rows(rows: list[dict], labels: list[str] | None, scripts: set[str]) -> str:
    """Reason to refuse an item's rows of one language, or an empty string."""
    if len(rows) != 1:
        return f"has {len(rows)} rows" if rows else "has no row"
    row = rows[0]
    if row["origin"] not in ORIGINS:
        return f"has an origin other than {', '.join(ORIGINS)}"
    if row["origin"] == "machine":
        return "is a machine's translation"
    if row["text"] == "":
        return "has no text"
    if hole := re.search(r"\[.*?\]", row["text"]):
        return f"leaves a place open ({hole[0]})"
    if labels is None:
        return "has options that are not the scale's codes"
    if len({*labels, ""}) != len(labels) + 1:
        return "has a label twice or an empty one"
    seen = _list_scripts(f"{row['text']} {' '.join(labels)}")
    foreign = sorted(set(seen) - scripts)
    if not seen or sum(script in foreign for script in seen) > FOREIGN_SHARE * len(seen):
        return f"is written in another script ({', '.join(foreign) or 'no letters'})"
    # The number ten, in digits or as one character.
    ten = "10" in re.findall(r"\d+", row["text"]) or any(unicodedata.numeric(letter, 0) == 10 for letter in row["text"])
    if ten and any(label.isdigit() for label in labels):
        return "names an end of its scale by numeral, which the descending order would turn round"
    return ""


def _split_options(text: str) -> list[tuple[int, str]]:
    """Codes and labels of `1. label | 2. label`; none where a part is of another form."""
    parts = [re.fullmatch(r"\s*(\d+)\s*\.\s*(.*?)\s*", part) for part in text.split("|")]
    return [(int(part[1]), part[2]) for part in parts] if all(parts) else []


def _order_labels(text: str, item: dict) -> list[str] | None:
    """Labels in the scale's order, or nothing where the codes are not the scale's."""
    parts = _split_options(text)
    codes, ours = item["codes"], next(item[key] for key in item if key.startswith("labels_"))
    labels = {code: label for code, label in zip(codes, ours, strict=True) if label.isdigit()}
    labels |= {code: label for code, label in parts if code not in {*item["drop"], *item["recode"]}}
    once = parts and len(dict(parts)) == len(parts)
    return [labels[code] for code in codes] if once and set(labels) == set(codes) else None


def _list_scripts(text: str) -> list[str]:
    """Script of each letter, by the first word of its Unicode name (LATIN, CJK, HIRAGANA ...)."""
    return [unicodedata.name(letter).split()[0] for letter in text if letter.isalpha()]
