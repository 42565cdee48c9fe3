"""How firm the human side is: intervals, half-samples and the choice of items, from respondents or from shares at their n."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from align_utils import values
from align_utils.config import Config
from align_utils.microdata import Respondents


def describe_people(cfg: Config, items: pd.DataFrame, human: pd.DataFrame, people: Respondents | None) -> pd.DataFrame:
    """Mean answer of every country on every item, with its interval.

    Parameters
    ----------
    items, human, people : from `instrument.choose_items`, `wvs.load_distributions`, `wvs.load_respondents`
        With respondents the interval is a bootstrap over them (over primary sampling units where the file has them, so that it
        holds the design's clustering); without, shares are drawn anew (multinomial) at the file's n or the culture's `survey_n`.

    Returns
    -------
    DataFrame
        `question, culture, value` (0 = first point of the scale, 1 = last), `low, high, n, n_effective, interval` (in words).

    Source
    ------
    Rao, Wu and Yue (1992): one unit fewer is drawn than there are, so that the spread is not too small. The file names no strata.
    """
    drawn = draw_shares(cfg, items, human, people, draws=cfg.profile.stats.resamples)
    tail = (1 - cfg.profile.stats.level) / 2
    rows = []
    for (question, culture), part in human.groupby(["question", "culture"], sort=False):
        points = np.linspace(0, 1, len(part))
        low, high = np.nanquantile(drawn[question, culture] @ points, [tail, 1 - tail])
        rows.append({
            "question": question, "culture": culture, "value": float(part["share"] @ points), "low": low, "high": high,
            "n": _size(cfg, part, culture), "n_effective": part["n_effective"].iloc[0], "interval": _name_draws(cfg, part, people, culture),
        })  # fmt: skip
    return pd.DataFrame(rows)


def draw_halves(
    cfg: Config, items: pd.DataFrame, human: pd.DataFrame, people: Respondents | None, *, repeats: int = 1
) -> pd.DataFrame:
    """Answer distributions of two random halves of every country's people: how far sampling alone sets them apart, at half the n.

    Respondents (or their primary sampling units) are dealt out, weights kept; shares alone are drawn (multinomial) at half their n,
    which leaves out weights and clusters, so that such halves lie too near. No bound: with a variance s^2 of one answer, the
    difference of two halves has 4 s^2 / n, that of two whole samples 2 s^2 / n (nearer by a factor of about 1.4), and exact answers
    against the whole sample s^2 / n (about twice as near).

    Returns
    -------
    DataFrame
        `question, culture, half` (1 or 2), `draw` (0 to repeats - 1), `code, share`; codes in scale order.
    """
    parts = []
    codes = human.groupby("question", sort=False)["code"].unique()
    for culture, questions, *halves in _split(cfg, items, human, people, repeats):
        for question in questions:
            for half, shares in enumerate(halves, start=1):
                draws, k = shares[question].shape
                parts.append(pd.DataFrame({
                    "question": question, "culture": culture, "half": half, "draw": np.repeat(np.arange(draws), k),
                    "code": np.tile(codes[question], draws), "share": shares[question].ravel(),
                }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def draw_choice(
    cfg: Config,
    items: pd.DataFrame,
    human: pd.DataFrame,
    people: Respondents | None,
    first: str,
    second: str,
    *,
    draws: int = 200,
) -> pd.DataFrame:
    """Choose the high-tension items again from answers drawn anew, the weights kept.

    Returns
    -------
    DataFrame, shape (draws, questions)
        Whether a question is chosen in a draw; the columns by falling tension in the data themselves, so the first `size` columns
        (`attrs["size"]`) are the original choice. The mean of a column is how often that item is chosen.
    """
    size = values.choose_size(human["question"].nunique(), cfg.profile.survey.high_tension)
    ranked = values.rank_tension(human, first, second, size=size)["question"]
    drawn = draw_shares(cfg, items, human, people, draws=draws)
    tension = np.column_stack([values.measure_rows(drawn[one, first], drawn[one, second])[0] for one in ranked])
    # A draw without any answer to a question says nothing for choosing it.
    places = np.argsort(-np.nan_to_num(tension, nan=-1.0), axis=1, kind="stable")[:, :size]
    chosen = np.zeros(tension.shape, dtype=bool)
    np.put_along_axis(chosen, places, True, axis=1)
    frame = pd.DataFrame(chosen, columns=ranked.tolist())
    frame.attrs["size"] = size
    return frame


def describe_choice(
    cfg: Config, chosen: pd.DataFrame, human: pd.DataFrame, people: Respondents | None, first: str, second: str
) -> str:
    """One sentence on `draw_choice`: how many of the chosen items stay chosen; a second where they are fewer than wanted."""
    size, wanted = chosen.attrs["size"], cfg.profile.survey.high_tension
    kept = chosen.iloc[:, :size].sum(axis=1)
    low, high = np.quantile(kept, [0.025, 0.975])
    drawn = "; ".join(f"{one}: {_name_draws(cfg, human[human['culture'] == one], people, one)}" for one in (first, second))
    return (
        f"{size} of {chosen.shape[1]} items are chosen (the profile asks for {wanted}; at most a third of the items there are, or "
        f"{values.FEWEST} where these are no more than half); {kept.mean():.1f} of them stay on average when both countries' answers are drawn anew {len(kept)} times "
        f"({drawn}), 95 % of the draws keep {low:.0f} to {high:.0f}."
        + (" Fifty need the official cross-national file." if size < wanted else "")
    )


def draw_shares(
    cfg: Config, items: pd.DataFrame, human: pd.DataFrame, people: Respondents | None, *, draws: int
) -> dict[tuple[str, str], np.ndarray]:
    """Answer distributions of every item and culture, drawn anew; in one draw a respondent's answers stay together.

    Returns
    -------
    dict
        (question, culture): array, shape (draws, k), rows sum to 1; NaN in a draw without an answer.
    """
    drawn = {}
    for culture, rng, codes, sizes, shares in _list_cultures(cfg, human):
        if people is None:
            for question in codes:
                drawn[question, culture] = rng.multinomial(sizes[question], shares[question], size=draws) / sizes[question]
            continue
        totals, places = _total_units(cfg, items, people, culture, codes)
        # Rao, Wu and Yue: units less one, with replacement.
        often = rng.multinomial(len(totals) - 1, np.full(len(totals), 1 / len(totals)), size=draws)
        sums = often.astype(float) @ totals
        drawn |= {(question, culture): _normalise(sums[:, place]) for question, place in places.items()}
    return drawn


def _split(cfg: Config, items: pd.DataFrame, human: pd.DataFrame, people: Respondents | None, repeats: int) -> Iterator[tuple]:
    """Culture, questions and the shares of two random halves: dicts of arrays of shape (repeats, k)."""
    for culture, rng, codes, sizes, shares in _list_cultures(cfg, human):
        if people is None:
            halves = []
            for extra in (0, 1):
                n = {question: (size + extra) // 2 for question, size in sizes.items()}
                halves.append({one: _normalise(rng.multinomial(n[one], shares[one], size=repeats)) for one in codes})
        else:
            totals, places = _total_units(cfg, items, people, culture, codes)
            picked = rng.permuted(np.tile(np.arange(len(totals)) % 2, (repeats, 1)), axis=1).astype(float)
            halves = [
                {question: _normalise(side[:, place]) for question, place in places.items()}
                for side in (picked @ totals, (1 - picked) @ totals)
            ]
        yield culture, list(codes), *halves


def _list_cultures(cfg: Config, human: pd.DataFrame) -> Iterator[tuple]:
    """Culture, its generator, and by question: codes, n, shares."""
    for number, (culture, part) in enumerate(human.groupby("culture", sort=False)):
        groups = dict(tuple(part.groupby("question", sort=False)))
        codes = {question: group["code"].tolist() for question, group in groups.items()}
        sizes = {question: _size(cfg, group, culture) for question, group in groups.items()}
        shares = {question: group["share"].to_numpy() for question, group in groups.items()}
        yield culture, np.random.default_rng([cfg.profile.seed, number]), codes, sizes, shares


def _total_units(cfg: Config, items: pd.DataFrame, people: Respondents, culture: str, codes: dict):
    """Weight of every answer to every question, summed per unit drawn: array (units, answers) and each question's columns."""
    part = people.answers[people.answers["country"] == cfg.cultures[culture].survey_country]
    units, weights = part["unit"].to_numpy(), part["weight"].to_numpy()
    repairs = items.set_index("question")["recode"]
    columns, places, start = [], {}, 0
    for question, known in codes.items():
        given = part[question].to_numpy()
        for code in known:
            merged = [code, *(old for old, new in repairs[question].items() if new == code)]
            columns.append(np.bincount(units, weights * np.isin(given, merged), minlength=units.max() + 1))
        places[question] = slice(start, start + len(known))
        start += len(known)
    return np.column_stack(columns), places


def _normalise(sums: np.ndarray) -> np.ndarray:
    total = sums.sum(axis=1, keepdims=True)
    return np.divide(sums, total, out=np.full(sums.shape, np.nan), where=total > 0)


def _size(cfg: Config, part: pd.DataFrame, culture: str) -> int:
    n = part["n"].iloc[0]
    return cfg.cultures[culture].survey_n if np.isnan(n) else int(n)


def _name_draws(cfg: Config, part: pd.DataFrame, people: Respondents | None, culture: str) -> str:
    if people is not None:
        return f"bootstrap over {people.units[cfg.cultures[culture].survey_country]}, weighted"
    return (
        "multinomial draws at the file's n"
        if part["n"].notna().all()
        else f"multinomial draws as if n = {cfg.cultures[culture].survey_n}"
    )
