"""Ratings of people's and every stage's responses: means over the cues both have, differences, frequency bands, human level."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from align_utils import equivalence, norms, rated, ratings, stats
from align_utils.artifacts import list_records
from align_utils.config import Config

# A model's list counts with so many responses; people with all of theirs, weighted by strength.
RATED = 5
# People's list of the same length, for what the length alone does to a mean.
PEOPLE = ("human", f"human_top{RATED}")
# Distinct rated words that a band of response frequency needs on either side to count in a re-weighted mean.
FEWEST = 10
GROUP = ["model", "culture", "rating"]
# Statistic of the headline record of each rating; the paper states the median for concreteness alone.
STATISTICS = {"concreteness": "median"}
Scales = dict[str, dict[str, pd.Series]]


def load_scales(cfg: Config) -> tuple[Scales, pd.DataFrame, list[Path]]:
    """Ratings of every culture's language, and what was read and checked.

    Returns
    -------
    (dict, DataFrame, list of Path)
        Culture to rating to Series; one row a language and rating (`ratings.COLUMNS`; `file` says 'not measured' and why where
        there is none); the files.
    """
    loaded, parts, paths = {}, [], set()
    for name, language in cfg.languages.items():
        loaded[name], table, absent = ratings.load_ratings(cfg, language)
        paths.update(table["path"])
        rows = [{"language": name, "rating": rating, "file": reason} for rating, reason in absent.items()]
        parts += table.drop(columns="path").to_dict("records") + rows
    scales = {name: loaded[culture.language] for name, culture in cfg.cultures.items()}
    return scales, pd.DataFrame(parts, columns=ratings.COLUMNS), sorted(paths)


def rate_conditions(cfg: Config, lists: pd.DataFrame, stage: dict[str, dict], scales: Scales) -> pd.DataFrame:
    """Mean ratings of the responses of people and of every stage to every test cue; nothing is left out yet.

    People stand there twice: `human`, all their responses by strength, and `human_top5`, their five strongest alike, which are as
    many as a model's list counts with.

    Parameters
    ----------
    lists : DataFrame
        From `associations.load_associations`.
    stage : dict
        From `pairs.load_stage`.

    Returns
    -------
    DataFrame
        `model, culture, label, stage, cue, rating`, and `value, exact, lemma, unrated` of `rated.rate_responses`. Ratings that
        one culture of the run has and another has not keep their rows, empty: what was not measured is shown as such.
    """
    parts = [pd.DataFrame(columns=["model", "culture", "label", "stage", "cue", "rating", "value", *rated.MATCHES])]
    wanted = list(dict.fromkeys(name for found in scales.values() for name in found))
    for culture, data in stage.items():
        found = {name: scales[culture].get(name, pd.Series(dtype=float)) for name in wanted}
        for (model, name), part in _list_conditions(cfg, lists, culture, data).items():
            table = rated.rate_responses(part, found, cfg.language_of(culture), cfg.profile.ratings)
            parts.append(table.assign(model=model, culture=culture, label=cfg.label(model, culture), stage=name))
    frame = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)[parts[0].columns]
    order = frame["rating"].map({name: place for place, name in enumerate(wanted)})
    return frame.iloc[np.argsort(order.to_numpy(), kind="stable")].reset_index(drop=True)


def pair_with_people(frame: pd.DataFrame) -> pd.DataFrame:
    """Beside every row people's value of the same cue (`human`); both empty unless both sides have one."""
    people = frame.loc[frame["stage"] == "human", [*GROUP, "cue", "value"]].rename(columns={"value": "human"})
    both = frame.merge(people, on=[*GROUP, "cue"], how="left", validate="many_to_one")
    known = both["value"].notna() & both["human"].notna()
    return both.assign(value=both["value"].where(known), human=both["human"].where(known))


def summarise_ratings(cfg: Config, frame: pd.DataFrame, families: dict) -> pd.DataFrame:
    """Mean and median of each rating over the cues that the stage and people both have, with people's beside it.

    Parameters
    ----------
    frame : DataFrame
        From `rate_conditions`.
    families : dict
        From `pairs.map_families`.

    Returns
    -------
    DataFrame
        `model, culture, rating, stage, statistic, value, low, high` (interval over families), `n` (cues in it), `human` (the
        same statistic of people over these n cues), `mask` (which cues), `cues` (asked), `empty` (of them without a response),
        `exact, lemma, unrated` (mean shares of the response weight over the cues that have responses).
    """
    by = [*GROUP, "stage"]
    both = _add_family(pair_with_people(frame), families)
    # Column by column: a mean over people's values for the same rows.
    cover = frame.groupby(by).agg(
        cues=("cue", "size"),
        listed=("exact", "count"),
        exact=("exact", "mean"),
        lemma=("lemma", "mean"),
        unrated=("unrated", "mean"),
    )
    cover = cover.assign(empty=cover["cues"] - cover["listed"]).reset_index()[[*by, "cues", "empty", *rated.MATCHES]]
    parts = []
    for name, function in (("mean", np.mean), ("median", np.median)):
        table = stats.summarise(both, by, "value", unit="family", statistic=function, **cfg.bootstrap)
        human = both.groupby(by)["human"].agg(name).reset_index()
        parts.append(table.merge(human, on=by).assign(statistic=name))
    table = pd.concat(parts).merge(cover, on=by)
    table["mask"] = np.where(table["stage"] == "human", "cues rated for people", "cues rated for the stage and people")
    columns = [*by, "statistic", "value", "low", "high", "n", "human", "mask", "cues", "empty", *rated.MATCHES]
    return table.sort_values([*GROUP, "statistic"], kind="stable", ignore_index=True)[columns]


def compare_ratings(cfg: Config, frame: pd.DataFrame, families: dict, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Paired differences in mean rating between two stages, or a stage and people, over the cues which these two have.

    Returns
    -------
    DataFrame
        See `stats.compare`, with `median` (difference of the two medians over the same cues) and `mask`.
    """
    frame = _add_family(frame, families)
    table = stats.compare(frame, GROUP, "value", over="stage", pairs=pairs, key="cue", unit="family", **cfg.bootstrap)
    wide = frame.pivot(index=[*GROUP, "cue"], columns="stage", values="value")
    medians = []
    for row in table.to_dict("records"):
        part = wide.xs(tuple(row[name] for name in GROUP), level=GROUP)[row["comparison"].split(" - ")].dropna().median()
        medians.append(part.iloc[0] - part.iloc[1])
    return table.assign(median=medians, mask="cues rated on both sides")


def band_ratings(cfg: Config, lists: pd.DataFrame, stage: dict[str, dict], scales: Scales) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ratings by band of response frequency, and means re-weighted to people's shares of the bands.

    Frequent words are rated more often than rare ones, and stages use them to different degrees: either moves a mean that says
    nothing of the words themselves.

    Returns
    -------
    (DataFrame, DataFrame)
        `model, culture, rating, stage, band` (1 the most frequent, 0 given by nobody), `least` and `most` (count of its words
        over all cues), and the rest of `rated.tabulate_bands`; then `model, culture, rating, stage, mean` (all rated responses to
        all test cues, each cue alike), `reweighed, bands` (`rated.reweigh_mean`), `gap` and `gap_reweighed` (from people's).
    """
    rules, tables, means = cfg.profile.ratings, [], []
    for culture, data in stage.items():
        language = cfg.language_of(culture)
        bands = rated.band_words(data["norms"], language, bands=rules.bands)
        ends = bands.groupby("band")["count"].agg(least="min", most="max")
        conditions = _list_conditions(cfg, lists, culture, data)
        for rating, scale in scales[culture].items():
            found = {key: rated.tabulate_bands(part, scale, bands["band"], language, rules) for key, part in conditions.items()}
            for (model, name), table in found.items():
                where = {"model": model, "culture": culture, "rating": rating, "stage": name}
                tables.append(table.merge(ends.reset_index(), how="left").assign(**where))
                people = rated.reweigh_mean(found[model, "human"], found[model, "human"], fewest=FEWEST)
                shown = rated.reweigh_mean(table, found[model, "human"], fewest=FEWEST)
                gaps = {"gap": shown["mean"] - people["mean"], "gap_reweighed": shown["reweighed"] - shown.pop("human")}
                means.append({**where, **shown, **gaps})
    by = [*GROUP, "stage"]
    columns = [*by, "band", "least", "most", "words", "rated_words", "share", "rated", "value"]
    table = pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
    return table, pd.DataFrame(means, columns=[*by, "mean", "reweighed", "bands", "gap", "gap_reweighed"])


def judge_human_level(cfg: Config, frame: pd.DataFrame, stage: dict[str, dict], families: dict, scales: Scales) -> pd.DataFrame:
    """Equivalence of every stage's mean ratings with people's; the margin is how far halves of the people differ from each other.

    Margin and test are over the same cues: those to which two participants or more gave a rated response, whatever any model
    answers; the stages' cues are those of them that the stage has too (`cues` beside `margin_cues`). The lemma back-off is the
    same for the halves, people's means and the stages.

    Returns
    -------
    DataFrame
        `model, culture, rating, stage, value` (mean paired difference from people), `low, high` (90 %), `n` (families), `margin,
        p` (`equivalence.show_equivalence`), `cues, margin_cues`. No margin, so no p, where a culture has no participants' trials.
    """
    rows = []
    for culture, data in stage.items():
        margins = _find_margins(cfg, culture, data["cues"]["test"], scales[culture])
        mine = pair_with_people(frame[frame["culture"] == culture]).dropna(subset="value")
        for (rating, model, name), part in mine[~mine["stage"].isin(PEOPLE)].groupby(["rating", "model", "stage"], sort=False):
            margin, cues = margins[rating]
            part = part if cues is None else part[part["cue"].isin(set(cues))]
            if part.empty:
                continue
            gaps = part["value"] - part["human"]
            shown = equivalence.show_equivalence(gaps, [families[culture, cue] for cue in part["cue"]], margin)
            counts = {"cues": len(part), "margin_cues": 0 if cues is None else len(cues)}
            rows.append({"model": model, "culture": culture, "rating": rating, "stage": name, **shown, **counts})
    columns = [*GROUP, "stage", "value", "low", "high", "n", "margin", "p", "cues", "margin_cues"]
    return pd.DataFrame(rows, columns=columns)


def list_metrics(cfg: Config, means: pd.DataFrame, gaps: pd.DataFrame, level: pd.DataFrame) -> list[dict]:
    """Metric records of the ratings: levels, people's beside them, coverage, differences and human level."""
    language = {name: culture.language for name, culture in cfg.cultures.items()}
    means, gaps, level = (table.assign(language=table["culture"].map(language)) for table in (means, gaps, level))
    records = []
    for name, part in means.groupby("rating", sort=False):
        statistic = STATISTICS.get(name, "mean")
        part = part[part["statistic"] == statistic]
        records += list_records(part, f"{name}_{statistic}", unit="scale points")
        bare = part.drop(columns=["value", "low", "high"])
        same = bare[bare["stage"] != "human"].rename(columns={"human": "value"})
        records += list_records(same, f"{name}_{statistic}_human_same_cues", unit="scale points")
        for match in ("exact", "lemma"):
            shares = bare.drop(columns="n").rename(columns={match: "value", "cues": "n"})
            records += list_records(shares, f"{name}_coverage", unit="share", method=match)
    for name, part in gaps.rename(columns={"comparison": "method"}).groupby("rating", sort=False):
        records += list_records(part, f"{name}_difference", unit="scale points")
        medians = part.drop(columns=["value", "low", "high"]).rename(columns={"median": "value"})
        records += list_records(medians, f"{name}_median_difference", unit="scale points")
    level = level.rename(columns={"rating": "method"})
    records += list_records(level, "human_level_difference", unit="scale points")
    return records + list_records(level.drop(columns=["value", "low", "high"]).rename(columns={"p": "value"}), "human_level_p")


def _list_conditions(cfg: Config, lists: pd.DataFrame, culture: str, data: dict) -> dict[tuple[str, str], pd.DataFrame]:
    people, conditions = rated.list_people(data["norms"], data["cues"]["test"]), {}
    strongest = rated.list_strongest(data["norms"], data["cues"]["test"], k=RATED)
    for model in cfg.models:
        mine = lists.loc[(lists["culture"] == culture) & (lists["model"] == model), ["stage", "cue", "responses"]]
        mine = mine.assign(responses=mine["responses"].map(lambda words: list(words)[:RATED]))
        conditions |= {(model, PEOPLE[0]): people, (model, PEOPLE[1]): strongest}
        conditions |= {(model, name): part for name, part in mine.groupby("stage", sort=False)}
    return conditions


def _find_margins(cfg: Config, culture: str, cues: Sequence[str], scales: dict[str, pd.Series]) -> dict[str, tuple]:
    language, trials = cfg.language_of(culture), norms.load_norms(cfg, culture)["trials"]
    if trials is None:
        return dict.fromkeys(scales, (float("nan"), None))
    trials, margins = trials[trials["cue"].isin(set(cues))], {}
    words = {language.normalise(word) for column in ("R1", "R2", "R3") for word in trials[column].unique()}
    settings = {"splits": cfg.profile.lexical.ceiling_splits, "seed": cfg.profile.seed}
    for rating, scale in scales.items():
        matched = rated.match_words(sorted(words), scale, language, cfg.profile.ratings)["value"].dropna()
        halves = equivalence.halve_ratings(trials, cues, matched, language, **settings)
        margins[rating] = (equivalence.find_margin(halves), equivalence.list_halvable(trials, cues, matched, language))
    return margins


def _add_family(frame: pd.DataFrame, families: dict) -> pd.DataFrame:
    return frame.assign(family=[families[key] for key in zip(frame["culture"], frame["cue"], strict=True)])
