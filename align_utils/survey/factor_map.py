"""The map's published construction: two factors of all respondents of the cross-national file; countries and models placed alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.store.textfiles import DataError
from align_utils.survey.human import load_world
from align_utils.survey.map import describe_axes, list_weights, summarise_map
from align_utils.survey.microdata import Respondents
from align_utils.survey.questions import ANSWERER


class Atlas(NamedTuple):
    """The fitted map. An indicator is a complete component of `map.yaml`, 0 at the lower end of its axis and 1 at the upper one.

    Attributes
    ----------
    axes : dict
        From `culture_map.load_axes`.
    centre, spread : Series
        Weighted mean and standard deviation of every indicator over all respondents.
    correlations : DataFrame, shape (indicators, indicators)
        Weighted, of respondents who have both.
    loadings : DataFrame, shape (indicators, axes)
        Rotated, matched to the axes.
    means : DataFrame, shape (countries, indicators)
        Weighted mean of every country; NaN where it was not asked.
    notes : list of str
        What was left out, counted.
    """

    axes: dict[str, dict]
    centre: pd.Series
    spread: pd.Series
    correlations: pd.DataFrame
    loadings: pd.DataFrame
    means: pd.DataFrame
    notes: list[str]


def load_atlas(cfg: Config, axes: dict[str, dict], items: pd.DataFrame) -> Atlas | None:
    """Fit the map to the cross-national file; None where there is none, since two countries' people span no map of the world.

    Parameters
    ----------
    axes : dict
        From `culture_map.load_axes`.
    items : DataFrame
        The whole instrument (`instrument.load_items` with `choice='all', nominal=True`); only the axes' questions are read, of all countries.

    Raises
    ------
    DataError
        What `microdata.read_respondents` (a country without weights among it) and `fit_atlas` raise.
    """
    needed = list_weights(axes, items)["question"].unique()
    items = items[items["question"].isin(needed)]
    people = load_world(cfg, items)
    return None if people is None else fit_atlas(axes, items, people)


def fit_atlas(axes: dict[str, dict], items: pd.DataFrame, people: Respondents) -> Atlas:
    """Weighted pairwise correlations of the indicators, two principal components, varimax, matched to the axes.

    A factor belongs to the axis, and is turned to the end, on whose indicators it loads most.

    Raises
    ------
    DataError
        A question that is no column; fewer than two indicators on an axis; two that nobody answered together, or correlations
        that no answers can have together.

    Source
    ------
    World Values Survey Association, syntax of the scores 'tradrat' and 'survself'; Inglehart and Welzel (2005), table 2.1.
    """
    lacking = [question for question in items["question"] if question not in people.answers]
    if lacking:
        raise DataError(
            f"no column {', '.join(lacking)} in the cross-national file, and the map needs it: take the file as published"
        )
    indicators, notes = score_people(axes, items, people.answers)
    flat = [name for name in indicators if not indicators[name].nunique() > 1]
    notes += [f"indicator '{name}' left out for all: nobody answered it, or all alike" for name in flat]
    indicators = indicators.drop(columns=flat)
    owners = {axis: [name for name in content["components"] if name in indicators] for axis, content in axes.items()}
    for axis, names in owners.items():
        if len(names) < 2:
            raise DataError(
                f"axis '{axis}' of the map: a factor needs two indicators, and the file has {', '.join(names) or 'none'}"
            )
    centre, spread, correlations = correlate(indicators, people.answers["weight"])
    if correlations.isna().any(axis=None) or np.linalg.eigvalsh(correlations)[0] < 1e-9:
        raise DataError(
            "the map's indicators have no sound correlations: two of them nobody answered together, or one repeats others"
        )
    loadings = pd.DataFrame(rotate_components(correlations.to_numpy()), index=correlations.index)
    sums = np.array([loadings.loc[names].sum() for names in owners.values()])
    if abs(np.diag(sums)).sum() < abs(np.diag(sums[:, ::-1])).sum():
        loadings, sums = loadings[[1, 0]], sums[:, ::-1]
    loadings = (loadings * np.sign(np.diag(sums))).set_axis(list(axes), axis=1)
    weighted = indicators.notna().mul(people.answers["weight"], axis=0)
    totals = [frame.groupby(people.answers["country"]).sum() for frame in (indicators.fillna(0) * weighted, weighted)]
    return Atlas(axes, centre, spread, correlations, loadings, totals[0] / totals[1], notes)


def score_people(axes: dict[str, dict], items: pd.DataFrame, answers: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Indicators of every respondent, in [0, 1]; NaN where an item of the indicator has no answer on its scale.

    Parameters
    ----------
    answers : DataFrame
        A column a question with the file's codes (`microdata.Respondents`); recodes of the scale are applied.

    Returns
    -------
    indicators : DataFrame, shape (respondents, components)
    notes : list of str
        Codes outside of a scale that count as missing, counted.
    """
    scored, notes = {}, []
    rules = items.set_index("question")
    for (component, question), rows in list_weights(axes, items).groupby(["component", "question"], sort=False):
        known = dict(zip(rows["code"], rows["weight"], strict=True))
        known |= {old: known[new] for old, new in rules.loc[question, "recode"].items()}
        value = answers[question].map(known)
        strange = (value.isna() & answers[question].notna() & ~answers[question].isin(rules.loc[question, "drop"])).sum()
        notes += [f"{strange} answers to {question} outside of its scale count as missing"] if strange else []
        scored.setdefault(component, []).append(value)
    return pd.DataFrame({name: sum(values) / len(values) for name, values in scored.items()}), notes


def correlate(frame: pd.DataFrame, weights: pd.Series) -> tuple[pd.Series, pd.Series, pd.DataFrame]:
    """Weighted mean and standard deviation of every column, and correlations over the rows that have both of a pair.

    Examples
    --------
    >>> frame = pd.DataFrame({"a": [0, 1, 1, None], "b": [0, 1, 0, 1]})
    >>> correlate(frame, pd.Series([1, 1, 1, 5]))[2].loc["a", "b"].round(3)
    np.float64(0.5)
    """
    there = frame.notna().to_numpy(dtype=float)
    x = frame.fillna(0).to_numpy(dtype=float)
    w = weights.to_numpy(dtype=float)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):  # a pair that nobody has is NaN
        mass = (w * there).T @ there
        mean = (w * x).T @ there / mass
        variance = (w * x**2).T @ there / mass - mean**2
        shared = ((w * x).T @ x / mass - mean * mean.T) / np.sqrt(variance * variance.T)
    names = frame.columns
    return (
        pd.Series(np.diag(mean), names), pd.Series(np.sqrt(np.diag(variance)), names), pd.DataFrame(shared, names, names)
    )  # fmt: skip


def rotate_components(correlations: np.ndarray) -> np.ndarray:
    """Loadings of the first two principal components after varimax with Kaiser's normalisation, shape (n, 2); order and signs are free.

    Source
    ------
    Kaiser (1958): in two dimensions the criterion has its optimum in closed form.
    """
    roots, vectors = np.linalg.eigh(correlations)
    loadings = vectors[:, [-1, -2]] * np.sqrt(roots[[-1, -2]])
    u, v = (loadings / np.linalg.norm(loadings, axis=1, keepdims=True)).T
    a, b, p = u**2 - v**2, 2 * u * v, len(u)
    angle = np.arctan2(2 * (a @ b) - 2 * a.sum() * b.sum() / p, (a @ a - b @ b) - (a.sum() ** 2 - b.sum() ** 2) / p) / 4
    return loadings @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def place(atlas: Atlas, indicators: pd.DataFrame) -> pd.DataFrame:
    """Coordinates of answerers by the indicators they have.

    With all indicators these are the factor scores, on the published scale. With some, the coefficients are those of the regression
    of the factors on these indicators alone, over the respondents: R_ss^-1 L_s, which is R^-1 L where nothing is missing.

    Parameters
    ----------
    indicators : DataFrame, shape (answerers, indicators)
        Shares or answers turned into [0, 1]; NaN or no column where an answerer has none.

    Returns
    -------
    DataFrame, shape (answerers, axes)
        NaN for an answerer without any indicator.
    """
    z = (indicators.reindex(columns=atlas.centre.index) - atlas.centre) / atlas.spread
    known = z.notna().to_numpy()
    scores = np.full((len(z), len(atlas.axes)), np.nan)
    for have in np.unique(known[known.any(axis=1)], axis=0):
        rows = (known == have).all(axis=1)
        coefficients = np.linalg.solve(atlas.correlations.to_numpy()[np.ix_(have, have)], atlas.loadings.to_numpy()[have])
        scores[rows] = z.to_numpy()[np.ix_(rows, have)] @ coefficients
    published = [content["published"] for content in atlas.axes.values()]
    scores = scores * [one["scale"] for one in published] + [one["shift"] for one in published]
    return pd.DataFrame(scores, index=z.index, columns=list(atlas.axes))


def list_countries(cfg: Config, atlas: Atlas | None) -> pd.DataFrame:
    """Every country of the file on the map, each by all the indicators that it was asked; empty without a fitted map.

    Returns
    -------
    DataFrame
        `country` (code in the file), `culture` ('' where the run has none there), `indicators` (how many), `whole`, a column an axis.
    """
    if atlas is None:
        return pd.DataFrame()
    cultures = {culture.survey_country: name for name, culture in cfg.cultures.items()}
    counts = atlas.means.notna().sum(axis=1)
    frame = place(atlas, atlas.means).assign(indicators=counts, whole=counts == atlas.means.shape[1])
    frame.insert(0, "culture", [cultures.get(country, "") for country in frame.index])
    return frame.rename_axis("country").reset_index()


def summarise_places(cfg: Config, scored: pd.DataFrame, atlas: Atlas | None) -> pd.DataFrame:
    """Place of every answerer on the two axes and the move from the untuned model's; without a fitted map, the two indices.

    Parameters
    ----------
    scored : DataFrame
        From `culture_map.score_components`; a component counts as an indicator where all of its items were answered.

    Returns
    -------
    DataFrame
        ANSWERER, `axis, value` (mean over seeds), `indicators, seeds, move` (NaN for baselines); with `atlas` None as from
        `culture_map.summarise_map`.
    """
    if atlas is None:
        return summarise_map(cfg, scored)
    keys = [*ANSWERER, *({"seed"} & set(scored))]
    wide = _complete(atlas, scored).pivot(index=keys, columns="component", values="value")
    long = place(atlas, wide).rename_axis(columns="axis").stack().rename("value").reset_index()
    table = long.groupby([*ANSWERER, "axis"], sort=False)["value"].agg(value="mean", seeds="size").reset_index()
    asked = ["model", "language", "persona", "axis"]
    base = table.loc[table["stage"] == "zero_shot", [*asked, "value"]]
    table = table.assign(indicators=wide.shape[1]).merge(base, on=asked, how="left", suffixes=("", "_base"))
    return table.assign(move=table["value"] - table["value_base"]).drop(columns="value_base")


def describe_places(axes: dict[str, dict], scored: pd.DataFrame, atlas: Atlas | None) -> str:
    """What the axes are made of, what was left out, and how well the models' indicators stand for all."""
    if atlas is None:
        return describe_axes(axes, scored)
    parts = [f"Factors of the respondents of {len(atlas.means)} countries; no published coordinates, which rest on all waves"]
    for axis, content in axes.items():
        own = atlas.loadings[axis].reindex(content["components"]).dropna()
        named = ", ".join(f"{name} ({content['published']['variables'][name]}) {value:+.2f}" for name, value in own.items())
        parts.append(f"{content['lower']} to {content['upper']}, loadings: {named}")
    partial = {country: list(row.index[row.isna()]) for country, row in atlas.means.iterrows() if row.isna().any()}
    if partial:
        parts.append("not asked in a country: " + ", ".join(f"{one} ({', '.join(names)})" for one, names in partial.items()))
    used = [name for name in atlas.centre.index if name in set(_complete(atlas, scored)["component"])]
    if len(used) < len(atlas.centre):
        gone = [name for name in atlas.centre.index if name not in used]
        asked = atlas.means.dropna()
        whole, less = place(atlas, asked), place(atlas, asked[used])
        fit = ", ".join(f"{whole[axis].corr(less[axis]):.2f} ({content['upper']})" for axis, content in axes.items())
        parts.append(
            f"models are placed by {len(used)} of {len(atlas.centre)} indicators (without {', '.join(gone)}): regression of the factors on "
            f"these alone, whose correlation with the whole score over {len(asked)} countries is {fit}"
        )
    else:
        parts.append(f"models are placed by all {len(used)} indicators")
    return "; ".join([*parts, *atlas.notes]) + "."


def _complete(atlas: Atlas, scored: pd.DataFrame) -> pd.DataFrame:
    """Components of answerers with all of their items: the indicators."""
    sizes = {name: len(items) for content in atlas.axes.values() for name, items in content["components"].items()}
    whole = scored[scored["component"].isin(atlas.centre.index) & (scored["items"] == scored["component"].map(sizes))]
    if whole.empty:
        raise DataError("the models answered all items of none of the map's indicators: ask more items (`survey.items: all`)")
    return whole
