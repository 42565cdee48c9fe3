"""Word-association norms: official strength and participant files in, one tidy frame of strengths out."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from align_utils.config import Config, Culture, Language
from align_utils.tables import DataError, find_file, parse_numbers, read_table

# SWOW-ZH replaces politically sensitive responses by a 32-digit hash.
REDACTED = re.compile(r"[0-9a-f]{32}")


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
    frame = raw.drop_duplicates()
    repairs = {"identical rows dropped": len(raw) - len(frame)}
    twice = frame.index[frame.duplicated(["cue", "response"])]
    if len(twice):
        row = frame.loc[twice[0]]
        raise DataError(
            f"{path}, line {twice[0]}: '{row['cue']}' - '{row['response']}' stands twice with different counts; keep one row"
        )
    marker = find_missing(frame["response"], language)
    repairs["missing markers dropped"] = int(marker.sum())
    lost = frame.loc[marker].groupby("cue")["count"].sum()
    frame = frame.loc[~marker].copy()
    # A marker that stood as a response was counted in N: what is left is the number of real responses.
    frame["n"] = frame["n"] - frame["cue"].map(lost).fillna(0).astype(int)
    merged = _merge_forms(frame, language)
    repairs["spellings merged"] = len(frame) - len(merged)
    return _rank(merged), repairs


def load_trials(path: Path, culture: Culture, language: Language) -> tuple[pd.DataFrame, dict[str, int]]:
    """Read a participant file (SWOW-EN R100 or complete, SWOW-ZH R55).

    Returns
    -------
    frame : DataFrame
        `participant, cue, R1, R2, R3`, one row a trial; missing and unknown responses are empty strings.
    repairs : dict
        Trials left out because their participant is no native speaker of this culture, and missing responses.

    Raises
    ------
    DataError
        See `read_table`; or no trial is left for the culture.
    """
    native = culture.norms.native
    extra = [native.column] if native else []
    raw = read_table(path, ["participantID", "cue", "R1", "R2", "R3", *extra]).rename(columns={"participantID": "participant"})
    kept = raw[raw[native.column].isin(native.values)].copy() if native else raw.copy()
    if kept.empty:
        raise DataError(
            f"{path}: no trial with {native.column} in {native.values}; culture '{culture.name}' cannot use this file"
        )
    missing = 0
    for column in ("R1", "R2", "R3"):
        marker = find_missing(kept[column], language)
        missing += int(marker.sum())
        kept.loc[marker, column] = ""
    repairs = {"trials of other speakers left out": len(raw) - len(kept), "missing responses": missing}
    return kept[["participant", "cue", "R1", "R2", "R3"]].reset_index(drop=True), repairs


def find_missing(responses: pd.Series, language: Language) -> pd.Series:
    """Boolean mask of the responses that stand for 'none' or 'unknown' (markers of the language, blank, redacted)."""
    bare = responses.str.strip('"')
    return bare.isin(["", *language.missing]) | bare.str.fullmatch(REDACTED)


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
    long = trials.melt("cue", columns, value_name="response")[["cue", "response"]]
    counts = long[long["response"] != ""].value_counts().rename("count").reset_index()
    counts["n"] = counts.groupby("cue")["count"].transform("sum")
    return _rank(_merge_forms(counts, language))


def load_norms(cfg: Config, name: str) -> dict:
    """Norms of one culture of a run: its strength file, else strengths built from its native speakers' trials.

    Returns
    -------
    dict
        `norms` (frame as in `load_strengths`), `trials` (frame or None), `files` (paths read), `repairs` (dict per file).

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
    repairs, trials = {}, None
    if participants is not None:
        trials, repairs[participants.name] = load_trials(participants, culture, language)
    if strengths is not None:
        frame, repairs[strengths.name] = load_strengths(strengths, language, kind)
    else:
        frame = build_strengths(trials, language, kind)
    return {"norms": frame, "trials": trials, "files": [p for p in (strengths, participants) if p], "repairs": repairs}


def summarise_ranks(norms: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles over cues of the strength at each rank that at least half of the cues reach."""
    quartiles = norms.groupby("rank")["strength"].quantile([0.25, 0.5, 0.75]).unstack()
    reached = norms.groupby("rank").size() >= norms["cue"].nunique() / 2
    quartiles = quartiles[reached].reset_index()
    return quartiles.set_axis(["rank", "low", "strength", "high"], axis=1)


def merge_languages(cfg: Config, loaded: dict[str, dict]) -> dict[str, pd.DataFrame]:
    """Norms per language for the split: of several cultures of one language, the rows of the cues that all of them have."""
    merged: dict[str, pd.DataFrame] = {}
    for name, part in loaded.items():
        language, frame = cfg.cultures[name].language, part["norms"]
        merged[language] = frame[frame["cue"].isin(set(merged[language]["cue"]))] if language in merged else frame
    return merged


def describe_norms(loaded: dict[str, dict]) -> pd.DataFrame:
    """One row a culture: cues, pairs, distinct responses, median N, trials, and what was repaired on reading."""
    rows = []
    for name, part in loaded.items():
        frame, repairs = (
            part["norms"],
            [f"{count} {what}" for file in part["repairs"].values() for what, count in file.items() if count],
        )
        rows.append({
            "culture": name, "cues": frame["cue"].nunique(), "pairs": len(frame), "distinct responses": frame["response"].nunique(),
            "median N": frame.groupby("cue")["n"].first().median(), "trials": 0 if part["trials"] is None else len(part["trials"]),
            "repairs": "; ".join(repairs) or "none",
        })  # fmt: skip
    return pd.DataFrame(rows)


def _merge_forms(frame: pd.DataFrame, language: Language) -> pd.DataFrame:
    """Sum a cue's responses that normalise alike ('Cat', 'cat') under the most frequent form."""
    forms = {word: language.normalise(word) for word in frame["response"].unique()}
    frame = frame.assign(form=frame["response"].map(forms))
    frame = frame[frame["form"] != ""].sort_values(["cue", "count"], ascending=[True, False], kind="stable")
    counts = {"response": ("response", "first"), "count": ("count", "sum"), "n": ("n", "first")}
    return frame.groupby(["cue", "form"], sort=False).agg(**counts).reset_index().drop(columns="form")


def _rank(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.sort_values(["cue", "count", "response"], ascending=[True, False, True], ignore_index=True)
    frame["strength"] = frame["count"] / frame["n"]
    frame["rank"] = frame.groupby("cue").cumcount() + 1
    return frame[["cue", "response", "count", "n", "strength", "rank"]]
