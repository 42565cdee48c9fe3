"""The reader's own wording of the survey items: sound rows replace ours, others are refused with the reason."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pandas as pd

from align_utils.tables import read_table

# A translator's own statement, since no rule can tell a machine's translation from a person's by its letters.
ORIGINS = ("official", "own", "machine")
# Abbreviations in another script (WHO) are common in a sound text, a whole sentence in it is another language.
FOREIGN_SHARE = 0.1
# How the survey's files word what is no answer on a scale (folded, beginnings).
MISSING = (
    "dontknow",
    "dk",
    "noanswer",
    "refused",
    "notapplicable",
    "inapplicable",
    "notasked",
    "missing",
    "othermissing",
    "na",
)


def read_wording(path: Path, items: pd.DataFrame) -> pd.DataFrame:
    """Put the reader's sentences and labels in place of ours, item by item.

    An item is taken from the file only if its rows are sound in every language, so that languages never differ in source. A
    sentence that says what 1 and 10 stand for is not: where the options are shown in descending order it would contradict them.

    Parameters
    ----------
    path : Path
        Columns `question, language, text, options, origin`: options as `1. label | 2. label` with the survey's codes (a scale
        with numerals inside may give its ends alone); origin is one of ORIGINS.
    items : DataFrame
        From `instrument.load_items`.

    Returns
    -------
    DataFrame
        The items with `wording`: 'file', or 'ours: <reason>'.

    Raises
    ------
    DataError
        No file, or one that cannot be read, such as for a missing column.

    Examples
    --------
    See tests/test_wording.py.
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
            labels = _read_options(found[0]["options"], item) if found else None
            reason = _judge_rows(found, labels, scripts[language])
            if not reason and any(label.isdigit() for label in labels) and _names_ten(found[0]["text"]):
                reason = "names an end of its scale by numeral, which the descending order would turn round"
            if reason:
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


def read_options(path: Path, language: str = "en") -> pd.DataFrame:
    """What the survey's own labels stand for, for files that hold labels in place of codes.

    Parameters
    ----------
    path : Path
        As in `read_wording`; rows of any origin serve, for here they are only compared.

    Returns
    -------
    DataFrame
        `question, text`, `labels` (dict: label folded by `fold_label` to code); rows without readable options are left out.
    """
    rows = read_table(path, ["question", "language", "text", "options"])
    rows = rows[rows["language"] == language].drop_duplicates("question", keep=False)
    parts = [[re.fullmatch(r"\s*(\d+)\s*\.\s*(.*?)\s*", one) for one in options.split("|")] for options in rows["options"]]
    rows["labels"] = [{fold_label(one[2]): int(one[1]) for one in row} if all(row) else {} for row in parts]
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
    return -1 if not folded or folded in MISSING or folded.startswith(tuple(one for one in MISSING if len(one) > 2)) else None


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
    return ""


def _read_options(text: str, item: dict) -> list[str] | None:
    """Labels in the scale's order, or nothing where the codes are not the scale's."""
    parts = [re.fullmatch(r"\s*(\d+)\s*\.\s*(.*?)\s*", part) for part in text.split("|")]
    if not all(parts) or len({part[1] for part in parts}) < len(parts):
        return None
    labels = {int(part[1]): part[2] for part in parts if int(part[1]) not in {*item["drop"], *item["recode"]}}
    codes, ours = item["codes"], next(item[key] for key in item if key.startswith("labels_"))
    inner = {code: label for code, label in zip(codes, ours, strict=True) if label.isdigit()}
    labels = inner | labels
    return [labels[code] for code in codes] if set(labels) == set(codes) else None


def _names_ten(text: str) -> bool:
    """Whether a sentence holds the number ten, in digits or as one character (十)."""
    return "10" in re.findall(r"\d+", text) or any(unicodedata.numeric(letter, 0) == 10 for letter in text)


def _list_scripts(text: str) -> list[str]:
    """Script of each letter, by the first word of its Unicode name (LATIN, CJK, HIRAGANA ...)."""
    return [unicodedata.name(letter).split()[0] for letter in text if letter.isalpha()]
