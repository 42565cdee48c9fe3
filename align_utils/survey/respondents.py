"""How firm the human side is: respondents drawn anew, dealt into halves, and the choice of items made again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.survey.distances import FEWEST, choose_size, rank_items, wasserstein
from align_utils.survey.human import Human


def describe_people(cfg: Config, human: Human) -> pd.DataFrame:
    """Mean answer of every country on every item, with its interval.

    With respondents the interval is a bootstrap over them (over primary sampling units where the file has them, so that it holds the
    design's clustering); without, shares are drawn anew (multinomial) at the file's n or the culture's `survey_n`.

    Returns
    -------
    DataFrame
        `question, culture, value` (0 = first point of the scale, 1 = last), `low, high, n, n_effective, interval` (in words).

    Source
    ------
    Rao, Wu and Yue (1992): one unit fewer is drawn than there are, so that the spread is not too small. The file names no strata.
    """
    drawn = draw_shares(cfg, human, draws=cfg.profile.stats.resamples)
    tail = (1 - cfg.profile.stats.level) / 2
    rows = []
    for (question, culture), part in human.shares.groupby(["question", "culture"], sort=False):
        points = np.linspace(0, 1, len(part))
        low, high = np.nanquantile(drawn[question, culture] @ points, [tail, 1 - tail])
        rows.append({
            "question": question, "culture": culture, "value": float(part["share"] @ points), "low": low, "high": high,
            "n": _size(cfg, part), "n_effective": part["n_effective"].iloc[0], "interval": _name_draws(cfg, human, part),
        })  # fmt: skip
    return pd.DataFrame(rows)


def draw_halves(cfg: Config, human: Human) -> pd.DataFrame:
    """Answer distributions of two random halves of every country's people: how far sampling alone sets them apart, at half the n.

    Respondents (or their primary sampling units) are dealt out, weights kept; shares alone are drawn (multinomial) at half their n,
    which leaves out weights and clusters, so that such halves lie too near. No bound: with a variance s^2 of one answer, the
    difference of two halves has 4 s^2 / n, that of two whole samples 2 s^2 / n (nearer by a factor of about 1.4), and exact answers
    against the whole sample s^2 / n (about twice as near).

    Returns
    -------
    DataFrame
        `question, culture, half` (1 or 2), `code, share`; codes in scale order.
    """
    codes = human.shares.groupby("question", sort=False)["code"].unique()
    parts = [
        pd.DataFrame(
            {"question": question, "culture": culture, "half": half, "code": codes[question], "share": shares[question][0]}
        )
        for culture, *halves in split_people(cfg, human, repeats=1)
        for question in halves[0]
        for half, shares in enumerate(halves, start=1)
    ]
    return pd.concat(parts, ignore_index=True)


def draw_choice(cfg: Config, human: Human, first: str, second: str, *, draws: int = 200) -> pd.DataFrame:
    """Choose the items on which two cultures differ most again from answers drawn anew, the weights kept.

    Returns whether a question is chosen in a draw, shape (draws, questions); the columns by falling distance in the data themselves, so
    that the first are the original choice. The mean of a column is how often that item is chosen.
    """
    frame = rank_items(human.shares, first, second, wanted=cfg.profile.survey.high_tension)
    ranked, size = frame["question"], int(frame["chosen"].sum())
    drawn = draw_shares(cfg, human, draws=draws)
    tension = np.column_stack([wasserstein(drawn[one, first], drawn[one, second]) for one in ranked])
    # A draw without any answer to a question says nothing for choosing it.
    places = np.argsort(-np.nan_to_num(tension, nan=-1.0), axis=1, kind="stable")[:, :size]
    chosen = np.zeros(tension.shape, dtype=bool)
    np.put_along_axis(chosen, places, True, axis=1)
    return pd.DataFrame(chosen, columns=ranked.tolist())


def describe_choice(cfg: Config, chosen: pd.DataFrame, human: Human, first: str, second: str) -> str:
    """One sentence on `draw_choice`: how many of the chosen items stay chosen; a second where they are fewer than wanted."""
    wanted = cfg.profile.survey.high_tension
    size = choose_size(chosen.shape[1], wanted)
    kept = chosen.iloc[:, :size].sum(axis=1)
    low, high = np.quantile(kept, [0.025, 0.975])
    own = dict(tuple(human.shares.groupby("culture")))
    drawn = "; ".join(f"{one}: {_name_draws(cfg, human, own[one])}" for one in (first, second))
    return (
        f"{size} of {chosen.shape[1]} items are chosen (the profile asks for {wanted}; at most a third of the items there are, or "
        f"{FEWEST} where these are no more than half); {kept.mean():.1f} of them stay on average when both countries' answers are drawn anew {len(kept)} times "
        f"({drawn}), 95 % of the draws keep {low:.0f} to {high:.0f}."
        + (" Fifty need the official cross-national file." if size < wanted else "")
    )


def draw_shares(cfg: Config, human: Human, *, draws: int) -> dict[tuple[str, str], np.ndarray]:
    """By question and culture: distributions drawn anew, shape (draws, k), NaN in a draw without an answer; a respondent's stay together."""
    drawn = {}
    for culture, rng, items in _list_cultures(cfg, human):
        if human.respondents is None:
            for question, part in items.items():
                drawn[question, culture] = rng.multinomial(_size(cfg, part), part["share"], size=draws) / _size(cfg, part)
            continue
        totals, places = _total_units(cfg, human, culture, items)
        # Rao, Wu and Yue: units less one, with replacement.
        often = rng.multinomial(len(totals) - 1, np.full(len(totals), 1 / len(totals)), size=draws)
        sums = often.astype(float) @ totals
        drawn |= {(question, culture): _normalise(sums[:, place]) for question, place in places.items()}
    return drawn


def split_people(cfg: Config, human: Human, *, repeats: int) -> Iterator[tuple[str, dict, dict]]:
    """Culture and the shares of two random halves of its people, by question arrays of shape (repeats, k)."""
    for culture, rng, items in _list_cultures(cfg, human):
        if human.respondents is None:
            halves = [
                {one: _normalise(rng.multinomial((_size(cfg, part) + extra) // 2, part["share"], size=repeats)) for one, part in items.items()}
                for extra in (0, 1)
            ]  # fmt: skip
        else:
            totals, places = _total_units(cfg, human, culture, items)
            picked = rng.permuted(np.tile(np.arange(len(totals)) % 2, (repeats, 1)), axis=1).astype(float)
            sides = (picked @ totals, (1 - picked) @ totals)
            halves = [{question: _normalise(side[:, place]) for question, place in places.items()} for side in sides]
        yield culture, *halves


def _list_cultures(cfg: Config, human: Human) -> Iterator[tuple[str, np.random.Generator, dict[str, pd.DataFrame]]]:
    """Culture, its generator, and its shares by question."""
    for number, (culture, part) in enumerate(human.shares.groupby("culture", sort=False)):
        yield culture, np.random.default_rng([cfg.profile.seed, number]), dict(tuple(part.groupby("question", sort=False)))


def _total_units(
    cfg: Config, human: Human, culture: str, items: dict[str, pd.DataFrame]
) -> tuple[np.ndarray, dict[str, slice]]:
    """Weight of every answer to every question, summed per unit drawn: array (units, answers) and each question's columns."""
    answers = human.respondents.answers
    own = answers[answers["country"] == cfg.cultures[culture].survey_country]
    units, weights = own["unit"].to_numpy(), own["weight"].to_numpy()
    columns, places = [], {}
    for question, part in items.items():
        places[question] = slice(len(columns), len(columns) + len(part))
        given = own[question].to_numpy()
        columns += [np.bincount(units, weights * (given == code), minlength=units.max() + 1) for code in part["code"]]
    return np.column_stack(columns), places


def _normalise(sums: np.ndarray) -> np.ndarray:
    total = sums.sum(axis=1, keepdims=True)
    return np.divide(sums, total, out=np.full(sums.shape, np.nan), where=total > 0)


def _size(cfg: Config, part: pd.DataFrame) -> int:
    """The file's n of one item in one culture, or the culture's `survey_n`."""
    n = part["n"].iloc[0]
    return cfg.cultures[part["culture"].iloc[0]].survey_n if np.isnan(n) else int(n)


def _name_draws(cfg: Config, human: Human, part: pd.DataFrame) -> str:
    culture = cfg.cultures[part["culture"].iloc[0]]
    if human.respondents is not None:
        return f"bootstrap over {human.respondents.units[culture.survey_country]}, weighted"
    return "multinomial draws " + ("at the file's n" if part["n"].notna().all() else f"as if n = {culture.survey_n}")
