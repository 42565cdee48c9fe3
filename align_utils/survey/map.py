"""A map of answerers in the manner of Inglehart and Welzel: two indices of the items there are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from align_utils.config.profiles import Config, read_yaml
from align_utils.stats import summarise
from align_utils.store.textfiles import DataError
from align_utils.survey.questions import ANSWERER


def load_axes(path: Path, items: pd.DataFrame) -> dict[str, dict]:
    """Read the axes of the map.

    Parameters
    ----------
    path : Path
        `data/survey/map.yaml`; its head explains the fields.
    items : DataFrame
        All items of the instrument (`instrument.load_items` with `choice='all', nominal=True`), to check the names against.

    Returns
    -------
    dict
        Axis to `{'lower', 'upper', 'components': {name: {question: +1, -1 or {code: score}}}, 'published': {'scale', 'shift',
        'variables': {component: name in the trend file}}}`, exactly two axes.

    Raises
    ------
    DataError
        Not two axes, a field missing or unknown, an item unknown or twice on an axis, a weight that is neither a sign nor scores
        in [0, 1] of the item's codes, a component without its published variable.
    """
    axes = read_yaml(path)
    if len(axes) != 2:
        raise DataError(f"{path}: a map has two axes, found {len(axes)}")
    codes = dict(zip(items["question"], items["codes"], strict=True))
    for axis, content in axes.items():
        if not isinstance(content, dict) or set(content) != {"lower", "upper", "components", "published"}:
            raise DataError(f"{path}, axis '{axis}': expected the fields lower, upper, components and published")
        published = content["published"]
        if set(published) != {"scale", "shift", "variables"} or set(published["variables"]) != set(content["components"]):
            raise DataError(f"{path}, axis '{axis}': published: expected scale, shift and variables, one a component")
        named = [question for component in content["components"].values() for question in component]
        for question in named:
            if question not in codes or named.count(question) > 1:
                problem = "stands twice on this axis" if question in codes else "is no item of items.csv"
                raise DataError(f"{path}, axis '{axis}': {question} {problem}")
        for component in content["components"].values():
            for question, weight in component.items():
                if isinstance(weight, dict):
                    fine = set(weight) <= set(codes[question]) and all(0 <= score <= 1 for score in weight.values())
                else:
                    fine = weight in (1, -1)
                if not fine:
                    raise DataError(
                        f"{path}, axis '{axis}': {question}: expected 1, -1 or scores in 0 to 1 of the codes {codes[question]}, "
                        f"found {weight}"
                    )
    return axes


def list_weights(axes: dict[str, dict], items: pd.DataFrame) -> pd.DataFrame:
    """Weight in [0, 1] of every answer to the axes' items, 0 at the lower end of its axis and 1 at the upper one.

    Returns
    -------
    DataFrame
        `axis, component, question, code, weight`, of the items given alone.
    """
    codes = dict(zip(items["question"], items["codes"], strict=True))
    rows = [
        (axis, name, question, code, _weigh(weight, place, code, codes[question]))
        for axis, content in axes.items()
        for name, component in content["components"].items()
        for question, weight in component.items()
        if question in codes
        for place, code in enumerate(codes[question])
    ]
    return pd.DataFrame(rows, columns=["axis", "component", "question", "code", "weight"])


def score_components(axes: dict[str, dict], items: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Score of every answerer on every component of the two axes, 0 at the lower end and 1 at the upper one.

    Parameters
    ----------
    axes : dict
        From `load_axes`.
    items : DataFrame
        The items asked: `question, codes` in scale order.
    answers : DataFrame
        ANSWERER, `seed` where given, `question, code, share`, of models and baselines (`yardsticks.add_baselines`); items that
        are not on the map, or that some of them did not answer, are passed over.

    Returns
    -------
    DataFrame
        ANSWERER, `seed` where given, `axis, component, items` (how many went in), `value` in [0, 1].
    """
    weights = list_weights(axes, items)
    # Only what everyone answered: places on indices of different items cannot be compared.
    answerer = [*ANSWERER, *({"seed"} & set(answers))]
    asked = answers.drop_duplicates([*answerer, "question"])["question"].value_counts()
    common = set(asked.index[asked == len(answers.drop_duplicates(answerer))])
    weights = weights[weights["question"].isin(common)]
    if weights.empty:
        raise DataError("none of the map's items was answered by everyone")
    both = answers.merge(weights, on=["question", "code"])
    both["value"] = both["share"] * both["weight"]
    keys = [*answerer, "axis", "component"]
    scores = both.groupby([*keys, "question"], sort=False)["value"].sum().reset_index()
    return scores.groupby(keys, sort=False).agg(items=("value", "size"), value=("value", "mean")).reset_index()


def summarise_map(cfg: Config, scored: pd.DataFrame) -> pd.DataFrame:
    """Place of every answerer on the two axes, with intervals over components, and the move from the untuned model's place.

    Several seeds are a second level of the intervals. With three to five components an interval over them is wide and rough: it says how far the place hangs on which of them are at
    hand. The move is paired by component.

    Returns
    -------
    DataFrame
        ANSWERER, `axis, value, low, high, n` (components), `items`, `move, move_low, move_high` (NaN for baselines).
    """
    keys, run = [*ANSWERER, "axis"], "seed" if "seed" in scored else None
    table = summarise(scored, keys, "value", unit="component", run=run, **cfg.bootstrap)
    once = scored.drop_duplicates([*keys, "component"])
    table = table.merge(once.groupby(keys, sort=False)["items"].sum().reset_index(), on=keys)
    asked = ["model", "language", "persona", "axis", "component"]
    base = scored.loc[scored["stage"] == "zero_shot", [*asked, "value"]]
    moves = scored.merge(base, on=asked, suffixes=("", "_base"))
    moves = moves[moves["stage"] != "zero_shot"].assign(move=lambda frame: frame["value"] - frame["value_base"])
    moves = summarise(moves, keys, "move", unit="component", run=run, **cfg.bootstrap).drop(columns="n")
    return table.merge(moves.rename(columns={"value": "move", "low": "move_low", "high": "move_high"}), on=keys, how="left")


def describe_axes(axes: dict[str, dict], scored: pd.DataFrame) -> str:
    """One sentence: which components each axis has in this run, and which are missing."""
    parts = []
    for axis, content in axes.items():
        used = set(scored.loc[scored["axis"] == axis, "component"])
        there = [name for name in content["components"] if name in used]
        gone = [name for name in content["components"] if name not in used]
        text = f"{content['lower']} to {content['upper']}: {', '.join(there) or 'nothing'}"
        parts.append(text + (f" (not in this run: {', '.join(gone)})" if gone else ""))
    return "; ".join(parts) + "."


def _weigh(weight: int | dict, place: int, code: int, codes: list[int]) -> float:
    if isinstance(weight, dict):
        return float(weight.get(code, 0))
    position = place / (len(codes) - 1)
    return position if weight == 1 else 1 - position
