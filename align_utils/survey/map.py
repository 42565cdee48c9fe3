"""A map of answerers in the manner of Inglehart and Welzel: two indices of the items there are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from align_utils.config.profiles import read_yaml
from align_utils.stats import summarise
from align_utils.store.textfiles import DataError
from align_utils.survey.items import load_items
from align_utils.survey.questions import ANSWERER


@dataclass(frozen=True)
class Axis:
    """An axis of the map.

    Attributes
    ----------
    name, lower, upper : str
        Name, and what its two ends stand for.
    weights : DataFrame
        `component, question, code, weight`: weight in [0, 1] of every answer, 0 at the lower end and 1 at the upper one.
    variables : dict
        Component: its variable in the published trend file, in the file's order.
    scale, shift : float
        Of the published factor scores: score * scale + shift.
    """

    name: str
    lower: str
    upper: str
    weights: pd.DataFrame
    variables: dict[str, str]
    scale: float
    shift: float


def load_axes(folder: Path) -> tuple[Axis, Axis]:
    """Read `map.yaml`, whose head explains the fields, beside the instrument whose items it names (`data/survey`).

    Raises
    ------
    DataError
        Not two axes, a field missing or unknown, an item unknown or twice on an axis, a weight that is neither a sign nor scores
        in [0, 1] of the item's codes, a component without its published variable.
    """
    path, items = folder / "map.yaml", load_items(folder, choice="all", nominal=True)
    axes, codes = read_yaml(path), dict(zip(items["question"], items["codes"], strict=True))
    if len(axes) != 2:
        raise DataError(f"{path}: a map has two axes, found {len(axes)}")
    return tuple(_read_axis(f"{path}, axis '{name}'", name, content, codes) for name, content in axes.items())


def _read_axis(where: str, name: str, content, codes: dict[str, list[int]]) -> Axis:
    if not isinstance(content, dict) or set(content) != {"lower", "upper", "components", "published"}:
        raise DataError(f"{where}: expected the fields lower, upper, components and published")
    components, published = content["components"], content["published"]
    if set(published) != {"scale", "shift", "variables"} or set(published["variables"]) != set(components):
        raise DataError(f"{where}: published: expected scale, shift and variables, one a component")
    rows, seen = [], set()
    for component, questions in components.items():
        for question, weight in questions.items():
            if question not in codes or question in seen:
                problem = "stands twice on this axis" if question in codes else "is no item of items.csv"
                raise DataError(f"{where}: {question} {problem}")
            seen.add(question)
            known = codes[question]
            if isinstance(weight, dict) and set(weight) <= set(known) and all(0 <= score <= 1 for score in weight.values()):
                scores = [float(weight.get(code, 0)) for code in known]
            elif weight in (1, -1):
                places = [place / (len(known) - 1) for place in range(len(known))]
                scores = places if weight == 1 else [1 - place for place in places]
            else:
                raise DataError(f"{where}: {question}: expected 1, -1 or scores in 0 to 1 of the codes {known}, found {weight}")
            rows += [(component, question, code, score) for code, score in zip(known, scores, strict=True)]
    weights = pd.DataFrame(rows, columns=["component", "question", "code", "weight"])
    variables = {component: published["variables"][component] for component in components}
    return Axis(name, content["lower"], content["upper"], weights, variables, published["scale"], published["shift"])


def list_weights(axes: tuple[Axis, Axis]) -> pd.DataFrame:
    """`axis` and the columns of `Axis.weights`, of both axes."""
    return pd.concat([axis.weights.assign(axis=axis.name) for axis in axes], ignore_index=True)


def score_components(axes: tuple[Axis, Axis], answers: pd.DataFrame) -> pd.DataFrame:
    """Score of every answerer on every component of the two axes, 0 at the lower end and 1 at the upper one.

    Parameters
    ----------
    axes : tuple of Axis
    answers : DataFrame
        Of models and references (`distances.add_references`); items that are not on the map, or that some of them did not answer,
        are passed over: places on indices of different items cannot be compared.

    Returns
    -------
    DataFrame
        ANSWERER, `seed` where given, `axis, component, items` (how many went in), `value` in [0, 1].
    """
    weights, answerer = list_weights(axes), [*ANSWERER, *({"seed"} & set(answers))]
    asked = answers.drop_duplicates([*answerer, "question"])["question"].value_counts()
    common = asked.index[asked == len(answers.drop_duplicates(answerer))]
    both = answers.merge(weights[weights["question"].isin(common)], on=["question", "code"])
    if both.empty:
        raise DataError("none of the map's items was answered by everyone")
    both["value"] = both["share"] * both["weight"]
    keys = [*answerer, "axis", "component"]
    scores = both.groupby([*keys, "question"], sort=False)["value"].sum().reset_index()
    return scores.groupby(keys, sort=False).agg(items=("value", "size"), value=("value", "mean")).reset_index()


def summarise_map(scored: pd.DataFrame, **bootstrap) -> pd.DataFrame:
    """Place of every answerer on the two axes, with intervals over components, and the move from the untuned model's place.

    Several seeds are a second level of the intervals. With three to five components an interval over them is wide and rough: it says
    how far the place hangs on which of them are at hand. The move is paired by component.

    Returns
    -------
    DataFrame
        ANSWERER, `axis, value, low, high, n` (components), `items`, `move, move_low, move_high` (NaN for references).
    """
    keys, run = [*ANSWERER, "axis"], "seed" if "seed" in scored else None
    table = summarise(scored, keys, "value", unit="component", run=run, **bootstrap)
    once = scored.drop_duplicates([*keys, "component"])
    table = table.merge(once.groupby(keys, sort=False)["items"].sum().reset_index(), on=keys)
    asked = ["model", "language", "persona", "axis", "component"]
    base = scored.loc[scored["stage"] == "zero_shot", [*asked, "value"]]
    moves = scored[scored["stage"] != "zero_shot"].merge(base, on=asked, suffixes=("", "_base"))
    moves = moves.assign(move=moves["value"] - moves["value_base"])
    moves = summarise(moves, keys, "move", unit="component", run=run, **bootstrap).drop(columns="n")
    return table.merge(moves.rename(columns={"value": "move", "low": "move_low", "high": "move_high"}), on=keys, how="left")


def describe_axes(axes: tuple[Axis, Axis], scored: pd.DataFrame) -> str:
    """One sentence: which components each axis has in this run, and which are missing."""
    parts = []
    for axis in axes:
        used = set(scored.loc[scored["axis"] == axis.name, "component"])
        there, gone = ([name for name in axis.variables if (name in used) == wanted] for wanted in (True, False))
        text = f"{axis.lower} to {axis.upper}: {', '.join(there) or 'nothing'}"
        parts.append(text + (f" (not in this run: {', '.join(gone)})" if gone else ""))
    return "; ".join(parts) + "."
