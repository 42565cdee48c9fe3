"""Word-association norms: official strength and participant files in, one tidy frame of strengths out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.settings import DropCues, Language
from align_utils.norms.cleaning import clean_trials, load_lists
from align_utils.norms.files import find_format, find_missing, load_trials
from align_utils.norms.published import compare_strengths
from align_utils.store.textfiles import DataError, find_file, parse_numbers, read_table


def load_strengths(path: Path, language: Language, responses: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """Read a published strength file.

    Parameters
    ----------
    path : Path
        `strength.SWOW-*.csv`, TAB or comma, plain or gzip; columns `cue, response, R1|R123, N` (strength is recomputed).
    language : Language
        Its markers of missing responses are dropped and N is lowered by their count; forms that normalise alike are merged.
    responses : {'R1', 'R123'}
        The count column to read.

    Returns
    -------
    frame : DataFrame
        `cue, response, count, n, strength, rank`; strength = count / n in (0, 1]; rank 1 is the strongest, ties in the order
        of the response's code points. Sorted by cue and rank.
    repairs : dict
        How many rows were identical doubles, markers, merged forms or copies of the cue's empty response.

    Raises
    ------
    DataError
        See `read_table`; also a count or N that is not a positive number, a count above N, or one pair with two counts.

    Source
    ------
    De Deyne et al. (2019), SWOW-EN18; Li et al. (2024), SWOW-ZH24; CC BY-NC-ND, read from the reader's own copy.
    """
    raw = read_table(path, ["cue", "response", responses, "N"])
    raw = raw.rename(columns={responses: "count", "N": "n"})
    raw["count"] = parse_numbers(raw, "count", path, low=1, high=1e9).astype(int)
    raw["n"] = parse_numbers(raw, "n", path, low=1, high=1e9).astype(int)
    over = raw.index[raw["count"] > raw["n"]]
    if len(over):
        raise DataError(f"{path}, line {over[0]}: count {raw.loc[over[0], 'count']} is above N {raw.loc[over[0], 'n']}")
    empty = raw.index[raw["cue"] == ""]
    if len(empty):
        raise DataError(f"{path}, line {empty[0]}: empty cue; the columns may be shifted")
    # On codes of the distinct words everything below is fast; categories are sorted by code points.
    frame = raw.astype({"cue": "category", "response": "category"}).drop_duplicates()
    repairs = {"identical rows dropped": len(raw) - len(frame)}
    twice = frame.index[frame.duplicated(["cue", "response"])]
    if len(twice):
        row = frame.loc[twice[0]]
        raise DataError(
            f"{path}, line {twice[0]}: '{row['cue']}' - '{row['response']}' stands twice with different counts; keep one row"
        )
    words = pd.Series(frame["response"].cat.categories)
    marker = find_missing(words, language).to_numpy()[frame["response"].cat.codes]
    repairs["missing markers dropped"] = int(marker.sum())
    lost = frame.loc[marker].groupby("cue", observed=False)["count"].sum().to_numpy()
    frame = frame.loc[~marker].copy()
    # A marker that stood as a response was counted in N: what is left is the number of real responses.
    frame["n"] = frame["n"] - lost[frame["cue"].cat.codes]
    merged = _merge_forms(frame, language)
    repairs["spellings merged"] = len(frame) - len(merged)
    return _rank(merged), repairs


def build_strengths(trials: pd.DataFrame, language: Language, responses: str) -> pd.DataFrame:
    """Count trials into strengths: count / N with N = non-missing responses to the cue, over R1 or over R1+R2+R3.

    Source
    ------
    SWOWEN-2018, `createAssoStrengthTable` (strength = count / N).

    Examples
    --------
    >>> from align_utils import config
    >>> en = config.load("smoke").languages["en"]
    >>> trials = pd.DataFrame({"cue": ["dog"] * 2, "R1": ["cat", "cat"], "R2": ["bone", ""], "R3": ["", ""]})
    >>> build_strengths(trials, en, "R123")[["response", "count", "n"]].values.tolist()
    [['cat', 2, 3], ['bone', 1, 3]]
    """
    columns = ["R1"] if responses == "R1" else ["R1", "R2", "R3"]
    given = pd.concat([trials[column] for column in columns], ignore_index=True).astype("category")
    cue = trials["cue"].astype("category").cat
    real = (given != "").to_numpy()
    code = np.tile(cue.codes.to_numpy().astype(np.int64), len(columns))[real]
    groups, keys = pd.factorize(code * len(given.cat.categories) + given.cat.codes.to_numpy()[real])
    code, word = np.divmod(keys, len(given.cat.categories))
    counts = pd.DataFrame({
        "cue": pd.Categorical.from_codes(code, cue.categories), "response": pd.Categorical.from_codes(word, given.cat.categories),
        "count": np.bincount(groups, minlength=len(keys)),
    })  # fmt: skip
    counts["n"] = np.bincount(code, counts["count"], len(cue.categories)).astype(np.int64)[code]
    return _rank(_merge_forms(counts, language))


@dataclass(frozen=True)
class ReadNorms:
    """What was read of one culture: its norms, its trials, and what was repaired on the way.

    `norms` as from `load_strengths`; `trials` (`participant, cue, R1, R2, R3`) or None; `files` read; `repairs` by file name; `cleaning`,
    the report of the trials' cleaning, or None; `published`: whether the norms come from a strength file.
    """

    norms: pd.DataFrame
    trials: pd.DataFrame | None
    files: list[Path]
    repairs: dict[str, dict[str, int]]
    cleaning: pd.DataFrame | None
    published: bool


def load_norms(cfg: Config, name: str) -> ReadNorms:
    """Norms of one culture of a run: its strength file, else strengths built from its native speakers' trials.

    Raises
    ------
    DataError
        No file of the culture's patterns is there; the message lists the patterns, the source and the variable to set.
    """
    culture, language = cfg.cultures[name], cfg.language_of(name)
    folder, kind = cfg.data_dir / "swow", cfg.profile.norms.responses
    strengths = find_file(folder, culture.norms.strengths.get(kind, []))
    participants = find_file(folder, culture.norms.trials)
    if strengths is None and participants is None:
        patterns = ", ".join([*culture.norms.strengths.get(kind, []), *culture.norms.trials])
        raise DataError(
            f"{folder}: no norms for culture '{name}'; expected one of: {patterns}. Source: smallworldofwords.org, research page "
            "(CC BY-NC-ND); put the file there or set ALIGN_DATA=<folder>"
        )
    repairs, people, report = {}, None, None
    if participants is not None:
        people, repairs[participants.name], report = load_people(cfg, name, participants)
    if strengths is not None:
        frame, repairs[strengths.name] = load_strengths(strengths, language, kind)
    else:
        frame = build_strengths(people, language, kind)
    files = [p for p in (strengths, participants) if p]
    return ReadNorms(frame, people, files, repairs, report, published=strengths is not None)


def load_people(cfg: Config, name: str, path: Path) -> tuple[pd.DataFrame, dict[str, int], pd.DataFrame]:
    """Trials of a culture's native speakers, read by the file's format and cleaned by its steps; repairs; the report of `clean_trials`.

    Speakers are chosen first, so that the best trials of a cue are the best of this culture. Lists are looked for beside the file.
    """
    culture, language = cfg.cultures[name], cfg.language_of(name)
    form = find_format(path, cfg.formats, culture.norms.format)
    raw, repairs = load_trials(path, form, culture, language)
    steps = [*form.steps, *([DropCues(step="drop_cues", words=culture.norms.doubles)] if culture.norms.doubles else [])]
    clean, report = clean_trials(raw, steps, load_lists(steps, path.parent), form.marks)
    if clean.empty:
        raise DataError(f"{path}: no trial of culture '{name}' is left after the steps of format {form.name}; see its YAML")
    repairs["trials cleaned away"] = len(raw) - len(clean)
    repairs["cleaning steps skipped for want of a list"] = int(report["what"].str.contains(" skipped: ").sum())
    return clean, repairs, report


def tabulate_cleaning(loaded: dict[str, ReadNorms]) -> pd.DataFrame:
    """What was repaired on reading and cleaned away per culture: `culture, step, what, count`, skipped steps included."""
    parts = []
    for name, part in loaded.items():
        rows = [("read " + file, what, count) for file, repairs in part.repairs.items() for what, count in repairs.items()]
        parts.append(pd.DataFrame(rows, columns=["step", "what", "count"]).assign(culture=name))
        if part.cleaning is not None:
            parts.append(part.cleaning.assign(culture=name))
    return pd.concat(parts, ignore_index=True)[["culture", "step", "what", "count"]]


def match_norms(cfg: Config, loaded: dict[str, ReadNorms]) -> pd.DataFrame:
    """How closely strengths counted from a culture's trials match its published ones (`published.compare_strengths`); a row where it has both."""
    rows = []
    for name, part in loaded.items():
        if part.trials is not None and part.published:
            language = cfg.language_of(name)
            ours = build_strengths(part.trials, language, cfg.profile.norms.responses)
            rows.append({"culture": name, **compare_strengths(ours, part.norms, language)})
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["culture", "cues", "pairs"])


def summarise_ranks(norms: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles over cues of the strength at each rank that at least half of the cues reach."""
    quartiles = norms.groupby("rank")["strength"].quantile([0.25, 0.5, 0.75]).unstack()
    reached = norms.groupby("rank").size() >= norms["cue"].nunique() / 2
    quartiles = quartiles[reached].reset_index()
    return quartiles.set_axis(["rank", "low", "strength", "high"], axis=1)


def merge_languages(cfg: Config, loaded: dict[str, ReadNorms]) -> dict[str, pd.DataFrame]:
    """Norms per language for the split: of several cultures of one language, the rows of the cues that all of them have."""
    merged: dict[str, pd.DataFrame] = {}
    for name, part in loaded.items():
        language, frame = cfg.cultures[name].language, part.norms
        merged[language] = frame[frame["cue"].isin(set(merged[language]["cue"].unique()))] if language in merged else frame
    return merged


def describe_norms(loaded: dict[str, ReadNorms]) -> pd.DataFrame:
    """One row a culture: cues, pairs, distinct responses, median N, trials, and what was repaired on reading."""
    rows = []
    for name, part in loaded.items():
        frame, repairs = (
            part.norms,
            [f"{count} {what}" for file in part.repairs.values() for what, count in file.items() if count],
        )
        rows.append({
            "culture": name, "cues": frame["cue"].nunique(), "pairs": len(frame), "distinct responses": frame["response"].nunique(),
            "median N": frame.groupby("cue")["n"].first().median(), "trials": 0 if part.trials is None else len(part.trials),
            "repairs": "; ".join(repairs) or "none",
        })  # fmt: skip
    return pd.DataFrame(rows)


def _merge_forms(frame: pd.DataFrame, language: Language) -> pd.DataFrame:
    """Sum a cue's responses that normalise alike ('Cat', 'cat') under the most frequent form."""
    forms, names = pd.factorize(np.array([language.normalise(word) for word in frame["response"].cat.categories], dtype=object))
    form = forms[frame["response"].cat.codes]
    kept = (names != "")[form]
    frame, form = frame[kept], form[kept]
    groups, keys = pd.factorize(frame["cue"].cat.codes.to_numpy().astype(np.int64) * len(names) + form)
    # Within a group the most frequent form first, in the order of the file where counts are equal.
    order = np.lexsort((-frame["count"].to_numpy(), groups))
    first = order[np.searchsorted(groups[order], np.arange(len(keys)))]
    return frame.iloc[first].assign(count=np.bincount(groups, frame["count"], len(keys)).astype(np.int64))


def _rank(frame: pd.DataFrame) -> pd.DataFrame:
    codes = frame["cue"].cat.codes.to_numpy()
    order = np.lexsort((frame["response"].cat.codes.to_numpy(), -frame["count"].to_numpy(), codes))
    frame = frame.iloc[order].reset_index(drop=True)
    frame["strength"] = frame["count"] / frame["n"]
    frame["rank"] = frame.groupby("cue", observed=True).cumcount() + 1
    for column in ("cue", "response"):
        frame[column] = frame[column].cat.categories.take(frame[column].cat.codes)
    return frame[["cue", "response", "count", "n", "strength", "rank"]]
