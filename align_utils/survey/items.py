"""The survey's items: which are asked, in whose words, and the questions made of them."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config, read_yaml
from align_utils.models.prompts import build_survey_prompt, list_orders
from align_utils.store.textfiles import DataError, read_table, refuse

# What a scale holds besides its labels by language, and what stands for each where it is left out.
SCALE = {"codes": None, "recode": {}, "drop": [], "direction": ""}
# A translator's own statement, since no rule can tell a machine's translation from a person's by its letters.
ORIGINS = ("official", "own", "machine")
# Abbreviations in another script (WHO) are common in a sound text, a whole sentence in it is another language.
FOREIGN_SHARE = 0.1
# How the survey's files word what is no answer on a scale (folded, beginnings; `dk` and `na` whole).
MISSING = ("dontknow", "noanswer", "refused", "notapplicable", "inapplicable", "notasked", "missing", "othermissing")


def choose_items(cfg: Config, *, nominal: bool = False) -> pd.DataFrame:
    """The items that the profile asks (`survey.items`), worded as it says (`survey.wording`).

    With `nominal` also the items without an order, which the map alone may use. Returns what `load_items` does, with `wording`: 'file'
    (`<data>/wvs/questions.csv`) or 'ours: <why not the file's>'; raises what `load_items` and `read_wording` raise.
    """
    survey = cfg.profile.survey
    items = load_items(cfg.root / "data" / "survey", choice=survey.items, nominal=nominal)
    if lacking := [f"text_{name}" for name in cfg.languages if f"text_{name}" not in items]:
        raise DataError(
            f"{cfg.root / 'data' / 'survey' / 'items.csv'}: no column {', '.join(lacking)}: the survey is asked in every language of the run; "
            "docs/adding-a-culture.md says what to add, and `make 04` does without"
        )
    path = cfg.data_dir / "wvs" / "questions.csv"
    if survey.wording == "ours":
        aside = f": the profile asks in ours, survey.wording, and leaves wvs/{path.name} aside" if path.is_file() else ""
        return items.assign(wording="ours" + aside)
    return read_wording(path, items) if path.is_file() else items.assign(wording=f"ours: there is no wvs/{path.name}")


def load_items(folder: Path, *, choice: str = "core", nominal: bool = False) -> pd.DataFrame:
    """Read `items.csv` and `scales.yaml` of `data/survey`; a DataError names the line, or the scale, that is not sound.

    `choice` is 'core' (the 60 items for which the bundled sample has shares) or 'all' (233); with `nominal` also those without an order.
    Returns `question, topic, kind, core, scale, text_<language>`, `codes` (list of int, in the scale's order), `recode` (dict of int),
    `drop` (list of int), `direction` ('high_to_low', 'low_to_high' or ''), `labels_<language>` (list of str).

    >>> from align_utils import config
    >>> folder = config.PACKAGE_ROOT / "data" / "survey"
    >>> len(load_items(folder)), len(load_items(folder, choice="all")), len(load_items(folder, choice="all", nominal=True))
    (60, 233, 235)
    """
    path, scales = folder / "items.csv", read_yaml(folder / "scales.yaml")
    languages = sorted({key for scale in scales.values() for key in scale} - set(SCALE))
    for name, scale in scales.items():
        known = [*scale["codes"], *scale.get("recode", {}), *scale.get("drop", [])]
        if len(set(known)) < len(known):
            raise DataError(f"{folder / 'scales.yaml'}: scale '{name}': each code once in codes, recode or drop, please")
        for language in languages:
            labels = scale.get(language, [])
            if len(labels) != len(scale["codes"]) or len({*labels, ""}) != len(labels) + 1:
                raise DataError(f"{folder / 'scales.yaml'}: scale '{name}', '{language}': one distinct label a code, please")
    texts = [f"text_{language}" for language in languages]
    items = read_table(path, ["question", "topic", "kind", "core", "scale", *texts])
    for column, known in {"scale": scales, "kind": ("ordered", "nominal"), "core": ("yes", "no")}.items():
        refuse(path, items, ~items[column].isin(list(known)), f"{column} '{{{column}}}' is none of {', '.join(known)}")
    numbered = items["question"].str.fullmatch(r"Q[1-9]\d*[A-Z]?")
    refuse(path, items, ~numbered, "question '{question}' is not Q and the survey's number, such as Q57")
    for column in ["question", *texts]:
        refuse(path, items, items[column] == "", "{question} has an empty " + column)
        refuse(path, items, items.duplicated(column), f"{{{column}}} stands twice in column {column}")
    rules = [SCALE | scales[name] for name in items["scale"]]
    for key in (*SCALE, *languages):
        items[key if key in SCALE else f"labels_{key}"] = [rule[key] for rule in rules]
    items["core"] = items["core"] == "yes"
    ordered = items["kind"] == "ordered"
    return items[(ordered & (items["core"] | (choice == "all"))) | (~ordered & nominal)].reset_index(drop=True)


def pick_item(wanted: str, items: pd.DataFrame) -> str:
    """The question that notebooks show: `show.item` of the profile, or the first with an order where the run does not ask it."""
    ordered = items.loc[items["kind"] == "ordered", "question"].tolist()
    return wanted if wanted in ordered else ordered[0]


def list_nominal(cfg: Config) -> set[str]:
    """Questions of all items whose options have no order: they are for the map alone, no scale may be taken of them."""
    items = load_items(cfg.root / "data" / "survey", choice="all", nominal=True)
    return set(items.loc[items["kind"] == "nominal", "question"])


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
            labels = _order_labels(found[0]["options"], item) if found else []
            if reason := _judge_rows(found, labels, scripts[language]):
                new = {"wording": f"ours: {language} {reason}"}
                break
            new |= {f"text_{language}": found[0]["text"], f"labels_{language}": labels}
        taken.append(item | new)
    return pd.DataFrame(taken)


def describe_wording(items: pd.DataFrame) -> str:
    """One sentence on `wording`: how many items stand in the file's words and how many in ours, and why.

    >>> describe_wording(pd.DataFrame({"wording": ["file", "ours: zh has no text", "ours: en has no row", "ours: en has no row"]}))
    'Wording: 1 item in that of the file, 3 in ours (most often: en has no row, 2).'
    """
    taken = int((items["wording"] == "file").sum())
    reasons = items.loc[items["wording"].str.startswith("ours: "), "wording"].str.removeprefix("ours: ").value_counts()
    told = f" (most often: {reasons.index[0]}, {reasons.iloc[0]})" if len(reasons) else ""
    return f"Wording: {taken} item{'s' * (taken != 1)} in that of the file, {len(items) - taken} in ours{told}."


def read_options(path: Path) -> pd.DataFrame:
    """What the survey's English labels stand for, for files that hold labels in place of codes (no such file: no rows).

    `question, text`, `labels` (dict: label folded by `fold_label` to code), of rows with readable options, of any origin.
    """
    if not path.is_file():
        return pd.DataFrame(columns=["question", "text", "labels"])
    rows = read_table(path, ["question", "language", "text", "options"])
    rows = rows[rows["language"] == "en"].drop_duplicates("question", keep=False)
    rows["labels"] = [{fold_label(label): code for code, label in _split_options(text)} for text in rows["options"]]
    return rows.loc[rows["labels"].map(len) > 1, ["question", "text", "labels"]].reset_index(drop=True)


def read_label(text: str, labels: dict[str, int]) -> int | None:
    """Code of a label: -1 where it says that there is no answer, None where nothing explains it; a bare numeral is its own code.

    >>> labels = {"agree": 1, "disagree": 2}
    >>> read_label("Agree", labels), read_label("2", labels), read_label("Don't know", labels), read_label("Perhaps", labels)
    (1, 2, -1, None)
    """
    folded = fold_label(text)
    if re.fullmatch(r"-?\d+", text.strip()):
        return max(int(text), -1)
    return labels.get(folded, -1 if folded in {"", "dk", "na"} or folded.startswith(MISSING) else None)


def fold_label(text: str) -> str:
    """Letters and digits of a label or a question alone, in small letters, to compare by."""
    return "".join(letter for letter in unicodedata.normalize("NFKC", text).casefold() if letter.isalnum())


def _judge_rows(rows: list[dict], labels: list[str], scripts: set[str]) -> str:
    """Reason to refuse an item's rows of one language, or an empty string."""
    if len(rows) != 1:
        return f"has {len(rows)} rows" if rows else "has no row"
    text, origin = rows[0]["text"], rows[0]["origin"]
    holes, letters = re.findall(r"\[.*?\]", text), _list_scripts(f"{text} {' '.join(labels)}")
    foreign = [script for script in letters if script not in scripts]
    # The number ten, in digits or as one character.
    ten = "10" in re.findall(r"\d+", text) or any(unicodedata.numeric(letter, 0) == 10 for letter in text)
    turned = ten and any(label.isdigit() for label in labels)
    faults = {
        f"has an origin other than {', '.join(ORIGINS)}": origin not in ORIGINS,
        "is a machine's translation": origin == "machine",
        "has no text": not text,
        f"leaves a place open ({''.join(holes[:1])})": holes,
        "has options that are not the scale's codes": not labels,
        "has a label twice or an empty one": len({*labels, ""}) != len(labels) + 1,
        f"is written in another script ({', '.join(sorted(set(foreign))) or 'no letters'})": not letters
        or len(foreign) > FOREIGN_SHARE * len(letters),
        "names an end of its scale by numeral, which the descending order would turn round": turned,
    }
    return next((why for why, is_so in faults.items() if is_so), "")


def _split_options(text: str) -> list[tuple[int, str]]:
    """Codes and labels of `1. label | 2. label`; none where a part is of another form."""
    parts = [re.fullmatch(r"\s*(\d+)\s*\.\s*(.*?)\s*", part) for part in text.split("|")]
    return [(int(part[1]), part[2]) for part in parts] if all(parts) else []


def _order_labels(text: str, item: dict) -> list[str]:
    """Labels in the scale's order, or none where the codes are not the scale's."""
    parts = _split_options(text)
    codes, ours = item["codes"], next(item[key] for key in item if key.startswith("labels_"))
    labels = {code: label for code, label in zip(codes, ours, strict=True) if label.isdigit()}
    labels |= {code: label for code, label in parts if code not in {*item["drop"], *item["recode"]}}
    once = parts and len(dict(parts)) == len(parts)
    return [labels[code] for code in codes] if once and set(labels) == set(codes) else []


def _list_scripts(text: str) -> list[str]:
    """Script of each letter, by the first word of its Unicode name (LATIN, CJK, HIRAGANA ...)."""
    return [unicodedata.name(letter, "UNNAMED").split()[0] for letter in text if letter.isalpha()]


@dataclass(frozen=True)
class Question:
    """An item in one order of its options, in one language and persona, with its prompt."""

    question: str
    language: str
    persona: str
    order: tuple[int, ...]
    codes: tuple[int, ...]
    prompt: str
    # The same question with the lead of an answer in words, the option texts in their order, and what may stand before an answer.
    open_prompt: str = ""
    options: tuple[str, ...] = ()
    forms: tuple[str, ...] = (" ", "")
    # The same question for an answer in words, without its list of options.
    bare_prompt: str = ""

    @property
    def worded(self) -> bool:
        """Whether every option has words (inner points of a ten-point scale are bare numerals)."""
        return not any(option.isdigit() for option in self.options)

    @property
    def group(self) -> tuple[str, str, str]:
        """Language, persona and item: what begins alike."""
        return self.language, self.persona, self.question


def halve_items(items: pd.DataFrame, *, seed: int) -> pd.Series:
    """Half ('a' or 'b') of every item, by its `question`: each topic's items, shuffled, are dealt out in turns, so that halves balance.

    >>> frame = pd.DataFrame({"question": list("stuvw"), "topic": ["x", "x", "x", "y", "y"]})
    >>> int(frame["topic"].groupby(halve_items(frame, seed=0).to_numpy()).value_counts().max())
    2
    """
    shuffled = items.sample(frac=1, random_state=seed).sort_values("topic", kind="stable")["question"]
    halves = pd.Series(np.resize(["a", "b"], len(shuffled)), index=shuffled.to_list(), name="half")
    return halves.reindex(items["question"])


def list_questions(cfg: Config, items: pd.DataFrame, *, personas: Sequence[str] = ("none",)) -> list[Question]:
    """Everything that is asked: languages x personas x items x option orders (`prompts.list_orders`, or its first and last).

    A persona that a language has no words for is not asked in it.
    """
    asked = []
    for language in cfg.languages.values():
        words = {"none": "", **language.personas}
        for persona, item in product([one for one in personas if one in words], items.to_dict("records")):
            text, labels = item[f"text_{language.name}"], item[f"labels_{language.name}"]
            prompt = partial(build_survey_prompt, language, text, labels, persona=words[persona])
            orders = list_orders(len(labels), numeric=any(label.isdigit() for label in labels))
            asked += [
                Question(
                    item["question"], language.name, persona, order=tuple(order), codes=tuple(item["codes"]),
                    prompt=prompt(order, lead=language.answer_lead), open_prompt=prompt(order, lead=language.text_lead),
                    bare_prompt=prompt([], lead=language.text_lead), options=tuple(labels[index] for index in order),
                    forms=tuple(language.answer_forms),
                )
                for order in (orders if cfg.profile.survey.orders == "all" else (orders[0], orders[-1]))
            ]  # fmt: skip
    return asked


def pick_sample(asked: Sequence[Question], size: int) -> list[Question]:
    """The first order of `size` items, spread over all, in every language and persona."""
    items = list(dict.fromkeys(q.question for q in asked))
    sample = {items[round(place)] for place in np.linspace(0, len(items) - 1, min(size, len(items)))}
    first: dict[tuple, Question] = {}
    for q in asked:
        if q.question in sample:
            first.setdefault(q.group, q)
    return list(first.values())
