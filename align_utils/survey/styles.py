"""Response styles: agreeing, taking the middle, taking the ends, whatever is asked."""

import numpy as np
import pandas as pd

from align_utils.stats import summarise
from align_utils.survey.answers import ANSWERER
from align_utils.survey.distances import name_answerer

STYLES = ("acquiescence", "midpoint", "extremes")
# Scales of agreement carry the word in their name (data/survey/scales.yaml).
AGREEMENT = "agree"
# An end is extreme only where there is something between the ends and the middle.
FEWEST_POINTS = 4


def score_styles(answers: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Styles of every answerer on every item to which they apply.

    `answers` are of models and references (`distances.add_references`). Returns ANSWERER, `seed, question, style, value`. `acquiescence`:
    share that agrees minus share that disagrees, in [-1, 1], on scales of agreement (a middle point counts for neither). `midpoint`: share
    on the middle point, or on the two middle points of a ten-point scale. `extremes`: share on the two ends, on scales of at least
    FEWEST_POINTS points.
    """
    weights = [
        {"question": item.question, "code": code, "style": style, "weight": weight}
        for item in items.itertuples()
        for style, row in _weigh(item.scale, len(item.codes), item.direction).items()
        for code, weight in zip(item.codes, row, strict=True)
    ]
    both = answers.merge(pd.DataFrame(weights, columns=["question", "code", "style", "weight"]), on=["question", "code"])
    both["value"] = both["share"] * both["weight"]
    return both.groupby([*ANSWERER, "seed", "question", "style"], sort=False)["value"].sum().reset_index()


def summarise_styles(scored: pd.DataFrame, **bootstrap) -> pd.DataFrame:
    """Mean of every style per answerer, with intervals over items (and seeds, where several).

    ANSWERER, `style, value, low, high, n, label` (the answerer in words), styles in the order of STYLES.
    """
    table = summarise(scored, [*ANSWERER, "style"], "value", unit="question", run="seed", **bootstrap)
    table["label"] = [name_answerer(*row) for row in table[ANSWERER[:-1]].itertuples(index=False)]
    return table.sort_values("style", key=lambda column: column.map(STYLES.index), kind="stable", ignore_index=True)


def _weigh(scale: str, k: int, direction: str) -> dict[str, np.ndarray]:
    """Weight of every point of a scale for the styles that apply to it."""
    found, place = {}, np.arange(k)
    if AGREEMENT in scale and direction:
        # From the side of agreement: a scale that begins with agreement is turned round.
        side = np.sign(place - (k - 1) / 2)
        found["acquiescence"] = side if direction == "low_to_high" else -side
    if k % 2 or k == 10:
        found["midpoint"] = np.isin(place, [(k - 1) // 2, k // 2]).astype(float)
    if k >= FEWEST_POINTS:
        found["extremes"] = np.isin(place, [0, k - 1]).astype(float)
    return found
