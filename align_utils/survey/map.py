"""A map of answerers in the manner of Inglehart and Welzel: two indices of the items there are; with the cross-national file, the
published construction: two factors of all its respondents, countries and models placed alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config, read_yaml
from align_utils.config.settings import Culture
from align_utils.config.stages import POSITIVE
from align_utils.stats import summarise
from align_utils.store.textfiles import DataError
from align_utils.survey.answers import ANSWERER
from align_utils.survey.human import Respondents, load_world
from align_utils.survey.items import load_items


@dataclass(frozen=True)
class Axis:
    """An axis of the map."""

    name: str
    lower: str  # what its two ends stand for
    upper: str
    weights: (
        pd.DataFrame
    )  # `component, question, code, weight` in [0, 1] of every answer: 0 at the lower end, 1 at the upper one
    variables: dict[str, str]  # component: its variable in the published trend file
    scale: float  # of the published factor scores: score * scale + shift
    shift: float


def load_axes(folder: Path) -> tuple[Axis, Axis]:
    """Read `map.yaml`, whose head explains the fields, beside the items it names (`data/survey`)."""
    items, axes = load_items(folder, choice="all", nominal=True), []
    codes = dict(zip(items["question"], items["codes"], strict=True))
    for name, content in read_yaml(folder / "map.yaml").items():
        scored = [
            (component, question, code, score)
            for component, own in content["components"].items()
            for question, weight in own.items()
            for code, score in _score_codes(codes[question], weight).items()
        ]
        weights = pd.DataFrame(scored, columns=["component", "question", "code", "weight"])
        axes.append(Axis(name, content["lower"], content["upper"], weights, **content["published"]))
    return tuple(axes)


def _score_codes(codes: list[int], weight: int | dict[int, float]) -> dict[int, float]:
    if isinstance(weight, dict):
        return {code: float(weight.get(code, 0)) for code in codes}
    places = {code: place / (len(codes) - 1) for place, code in enumerate(codes)}
    return places if weight == 1 else {code: 1 - place for code, place in places.items()}


def list_weights(axes: tuple[Axis, Axis]) -> pd.DataFrame:
    """`axis` and the columns of `Axis.weights`, of both axes."""
    return pd.concat([axis.weights.assign(axis=axis.name) for axis in axes], ignore_index=True)


def score_components(axes: tuple[Axis, Axis], answers: pd.DataFrame) -> pd.DataFrame:
    """Score of every answerer on every component of the two axes, 0 at the lower end and 1 at the upper one.

    `answers` are of models and references (`distances.add_references`), the positive controls left out: they are asked no item without
    an order. Items that are not on the map, or that some did not answer, are passed over: places on indices of different items cannot
    be compared. Returns ANSWERER, `seed, axis, component, items` (how many went in), `value` in [0, 1].
    """
    weights, answerer = list_weights(axes), [*ANSWERER, "seed"]
    answers = answers[~answers["stage"].isin(POSITIVE)]
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
    how far the place hangs on which of them are at hand. The move is paired by component. Returns ANSWERER, `axis, value, low, high, n`
    (components), `items`, `move, move_low, move_high` (NaN for references).
    """
    keys, over = [*ANSWERER, "axis"], {"unit": "component", "run": "seed", **bootstrap}
    items = scored.drop_duplicates([*keys, "component"]).groupby(keys, sort=False)["items"].sum()
    table = summarise(scored, keys, "value", **over).merge(items.reset_index(), on=keys)
    moves = _add_moves(scored, ["component"])
    moves = summarise(moves[moves["stage"] != "zero_shot"], keys, "move", **over).drop(columns="n")
    return table.merge(moves.rename(columns={"value": "move", "low": "move_low", "high": "move_high"}), on=keys, how="left")


def _add_moves(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """`move`: `value` less that of the untuned model, asked alike, on the same axis and in the same `by`; NaN for references."""
    asked = ["model", "language", "persona", "axis", *by]
    base = frame.loc[frame["stage"] == "zero_shot", [*asked, "value"]]
    frame = frame.merge(base, on=asked, how="left", suffixes=("", "_base"))
    return frame.assign(move=frame["value"] - frame.pop("value_base"))


# The published construction.


@dataclass(frozen=True)
class Atlas:
    """The fitted map. An indicator is a complete component of `map.yaml`, 0 at the lower end of its axis and 1 at the upper one."""

    axes: tuple[Axis, Axis]
    centre: pd.Series  # weighted mean of every indicator over all respondents
    spread: pd.Series  # and its standard deviation
    correlations: pd.DataFrame  # (indicators, indicators): weighted, of respondents who have both
    loadings: pd.DataFrame  # (indicators, axes): rotated, matched to the axes
    means: pd.DataFrame  # (countries, indicators): weighted; NaN where a country was not asked
    strange: dict[str, int]  # question: answers outside of its scale, which count as missing


def load_atlas(cfg: Config, axes: tuple[Axis, Axis]) -> Atlas | None:
    """Fit the map to the cross-national file; None where there is none, since two countries' people span no map of the world.

    A DataError is one of `human.read_respondents` (a country without weights among it) or `fit_atlas`.
    """
    items = load_items(cfg.root / "data" / "survey", choice="all", nominal=True)
    items = items[items["question"].isin(list_weights(axes)["question"])]
    people = load_world(cfg, items)
    return None if people is None else fit_atlas(axes, items, people)


def fit_atlas(axes: tuple[Axis, Axis], items: pd.DataFrame, people: Respondents) -> Atlas:
    """Weighted pairwise correlations of the indicators, two principal components, varimax, matched to the axes.

    A factor belongs to the axis, and is turned to the end, on whose indicators it loads most. Source: World Values Survey Association,
    syntax of the scores 'tradrat' and 'survself'; Inglehart and Welzel (2005), table 2.1. A DataError: a question that is no column;
    correlations that no answers can have together (an indicator that nobody answered, two that nobody answered together).
    """
    answers = people.answers
    if lacking := [question for question in items["question"] if question not in answers]:
        raise DataError(
            f"no column {', '.join(lacking)} in the cross-national file, and the map needs it: take the file as published"
        )
    indicators, strange = score_people(axes, items, answers)
    centre, spread, correlations = correlate_weighted(indicators, answers["weight"])
    if correlations.isna().any(axis=None) or np.linalg.eigvalsh(correlations)[0] < 1e-9:
        gaps = correlations.isna().sum()
        unsound = ", ".join(gaps.index[gaps == gaps.max()]) if gaps.any() else "one repeats others"
        raise DataError(
            f"the map's indicators have no sound correlations ({unsound}): one that nobody answered or all alike, or two that nobody "
            "answered together; take the cross-national file as published"
        )
    loadings = pd.DataFrame(rotate_components(correlations.to_numpy()), index=correlations.index)
    sums = np.array([loadings.loc[list(axis.variables)].sum() for axis in axes])
    if abs(np.diag(sums)).sum() < abs(np.diag(sums[:, ::-1])).sum():
        loadings, sums = loadings[[1, 0]], sums[:, ::-1]
    loadings = (loadings * np.sign(np.diag(sums))).set_axis([axis.name for axis in axes], axis=1)
    weighted = indicators.notna().mul(answers["weight"], axis=0)
    totals = [frame.groupby(answers["country"]).sum() for frame in (indicators.fillna(0) * weighted, weighted)]
    return Atlas(axes, centre, spread, correlations, loadings, totals[0] / totals[1], strange)


def score_people(axes: tuple[Axis, Axis], items: pd.DataFrame, answers: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Indicators of every respondent, in [0, 1] and NaN where an item of them has no answer on its scale; by question how many are off it.

    `answers` has a column a question with the file's codes; the recodes of `items` are applied.
    """
    scored, strange, rules = {}, {}, items.set_index("question")
    for (component, question), rows in list_weights(axes).groupby(["component", "question"], sort=False):
        known = dict(zip(rows["code"], rows["weight"], strict=True))
        known |= {old: known[new] for old, new in rules.loc[question, "recode"].items()}
        scored.setdefault(component, []).append(answers[question].map(known))
        if off := (answers[question].notna() & ~answers[question].isin([*known, *rules.loc[question, "drop"]])).sum():
            strange[question] = int(off)
    return pd.DataFrame({name: sum(values) / len(values) for name, values in scored.items()}), strange


def correlate_weighted(frame: pd.DataFrame, weights: pd.Series) -> tuple[pd.Series, pd.Series, pd.DataFrame]:
    """Weighted mean and standard deviation of every column, and correlations over the rows that have both of a pair.

    >>> frame = pd.DataFrame({"a": [0, 1, 1, None], "b": [0, 1, 0, 1]})
    >>> correlate_weighted(frame, pd.Series([1, 1, 1, 5]))[2].loc["a", "b"].round(3)
    np.float64(0.5)
    """
    there = frame.notna().to_numpy(dtype=float)
    x = frame.fillna(0).to_numpy(dtype=float)
    w, names = weights.to_numpy(dtype=float)[:, None], frame.columns
    with np.errstate(invalid="ignore", divide="ignore"):  # a pair that nobody has is NaN
        mass = (w * there).T @ there
        mean = (w * x).T @ there / mass
        variance = (w * x**2).T @ there / mass - mean**2
        shared = ((w * x).T @ x / mass - mean * mean.T) / np.sqrt(variance * variance.T)
    return pd.Series(np.diag(mean), names), pd.Series(np.sqrt(np.diag(variance)), names), pd.DataFrame(shared, names, names)


def rotate_components(correlations: np.ndarray) -> np.ndarray:
    """Loadings of the first two principal components after varimax with Kaiser's normalisation, shape (n, 2); order and signs are free.

    Source: Kaiser (1958): in two dimensions the criterion has its optimum in closed form.
    """
    roots, vectors = np.linalg.eigh(correlations)
    loadings = vectors[:, [-1, -2]] * np.sqrt(roots[[-1, -2]])
    u, v = (loadings / np.linalg.norm(loadings, axis=1, keepdims=True)).T
    a, b, p = u**2 - v**2, 2 * u * v, len(u)
    angle = np.arctan2(2 * (a @ b) - 2 * a.sum() * b.sum() / p, (a @ a - b @ b) - (a.sum() ** 2 - b.sum() ** 2) / p) / 4
    return loadings @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def place(atlas: Atlas, indicators: pd.DataFrame) -> pd.DataFrame:
    """Coordinates of answerers, shape (answerers, axes), by the indicators they have; NaN without any.

    With all indicators these are the factor scores, on the published scale. With some, the coefficients are those of the regression
    of the factors on these indicators alone, over the respondents: R_ss^-1 L_s, which is R^-1 L where nothing is missing.
    """
    z = (indicators.reindex(columns=atlas.centre.index) - atlas.centre) / atlas.spread
    known = z.notna().to_numpy()
    scores = np.full((len(z), len(atlas.axes)), np.nan)
    for have in np.unique(known[known.any(axis=1)], axis=0):
        rows = (known == have).all(axis=1)
        coefficients = np.linalg.solve(atlas.correlations.to_numpy()[np.ix_(have, have)], atlas.loadings.to_numpy()[have])
        scores[rows] = z.to_numpy()[np.ix_(rows, have)] @ coefficients
    scores = scores * [axis.scale for axis in atlas.axes] + [axis.shift for axis in atlas.axes]
    return pd.DataFrame(scores, index=z.index, columns=[axis.name for axis in atlas.axes])


def list_countries(cultures: Mapping[str, Culture], atlas: Atlas | None) -> pd.DataFrame:
    """Every country of the file on the map, each by all the indicators that it was asked; empty without a fitted map.

    Returns `country` (code in the file), `culture` ('' where the run has none there), `indicators` (how many), `whole`, a column an axis.
    """
    if atlas is None:
        return pd.DataFrame()
    # Of cultures that share a country the first stands for it.
    cultures = {culture.survey_country: name for name, culture in reversed(cultures.items())}
    counts = atlas.means.notna().sum(axis=1)
    frame = place(atlas, atlas.means).assign(indicators=counts, whole=counts == atlas.means.shape[1])
    frame.insert(0, "culture", [cultures.get(country, "") for country in frame.index])
    return frame.rename_axis("country").reset_index()


def summarise_places(scored: pd.DataFrame, atlas: Atlas | None, **bootstrap) -> pd.DataFrame:
    """Place of every answerer on the two axes and the move from the untuned model's; without a fitted map, the two indices.

    `scored` is of `score_components`; a component counts as an indicator where all of its items were answered. Returns ANSWERER, `axis,
    value` (mean over seeds), `indicators, seeds, move` (NaN for references); with `atlas` None as from `summarise_map`.
    """
    if atlas is None:
        return summarise_map(scored, **bootstrap)
    wide = _pick_complete(atlas, scored).pivot(index=[*ANSWERER, "seed"], columns="component", values="value")
    long = place(atlas, wide).rename_axis(columns="axis").stack().rename("value").reset_index()
    table = long.groupby([*ANSWERER, "axis"], sort=False)["value"].agg(value="mean", seeds="size").reset_index()
    return _add_moves(table.assign(indicators=wide.shape[1]), [])


def describe_places(axes: tuple[Axis, Axis], scored: pd.DataFrame, atlas: Atlas | None) -> str:
    """What the axes are made of, which components this run lacks, and how well the models' indicators stand for all."""
    if atlas is None:
        parts = []
        for axis in axes:
            used = set(scored.loc[scored["axis"] == axis.name, "component"])
            there, gone = (", ".join(name for name in axis.variables if (name in used) == wanted) for wanted in (True, False))
            parts.append(
                f"{axis.lower} to {axis.upper}: {there or 'nothing'}" + (f" (not in this run: {gone})" if gone else "")
            )
        return "; ".join(parts) + "."
    parts = [f"Factors of the respondents of {len(atlas.means)} countries; no published coordinates, which rest on all waves"]
    for axis in axes:
        own = atlas.loadings[axis.name].reindex(axis.variables).dropna()
        named = ", ".join(f"{name} ({axis.variables[name]}) {value:+.2f}" for name, value in own.items())
        parts.append(f"{axis.lower} to {axis.upper}, loadings: {named}")
    partial = {country: list(row.index[row.isna()]) for country, row in atlas.means.iterrows() if row.isna().any()}
    if partial:
        parts.append("not asked in a country: " + ", ".join(f"{one} ({', '.join(names)})" for one, names in partial.items()))
    complete = set(_pick_complete(atlas, scored)["component"])
    used, gone = ([name for name in atlas.centre.index if (name in complete) == wanted] for wanted in (True, False))
    told = f"models are placed by all {len(used)} indicators"
    if gone:
        asked = atlas.means.dropna()
        whole, less = place(atlas, asked), place(atlas, asked[used])
        fit = ", ".join(f"{whole[axis.name].corr(less[axis.name]):.2f} ({axis.upper})" for axis in axes)
        told = (
            f"models are placed by {len(used)} of {len(atlas.centre)} indicators (without {', '.join(gone)}): regression of the factors on "
            f"these alone, whose correlation with the whole score over {len(asked)} countries is {fit}"
        )
    off = [f"{count} answers to {question} outside of its scale count as missing" for question, count in atlas.strange.items()]
    return "; ".join([*parts, told, *off]) + "."


def _pick_complete(atlas: Atlas, scored: pd.DataFrame) -> pd.DataFrame:
    """Components of answerers with all of their items: the indicators."""
    sizes = list_weights(atlas.axes).groupby("component")["question"].nunique()
    whole = scored[scored["items"] == scored["component"].map(sizes)]
    if whole.empty:
        raise DataError("the models answered all items of none of the map's indicators: ask more items (`survey.items: all`)")
    return whole
