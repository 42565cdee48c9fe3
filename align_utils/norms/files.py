"""Participants' trials: official files in, recognised and read by their format, one tidy frame of raw responses out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd

from align_utils.config.settings import RESPONSES, UNKNOWN, Culture, Format, Language
from align_utils.store.textfiles import DataError, find_file, parse_numbers, read_header, read_table

# SWOW-ZH replaces politically sensitive responses by a 32-digit hash.
REDACTED = re.compile(r"[0-9a-f]{32}")


def find_format(path: Path, formats: Sequence[Format], name: str | None = None) -> Format:
    """The one format of `notebooks/settings/formats` that a participant file has, or the one its culture names.

    DataError where none fits (names the nearest and what it lacks), several do, or the named one is not there.
    """
    if name is not None:
        named = [entry for entry in formats if entry.name == name]
        if not named:
            raise DataError(
                f"{path}: notebooks/settings/formats/{name}.yaml is not there; found: {', '.join(f.name for f in formats)}"
            )
        return named[0]
    headers = {separator: read_header(path, separator) for separator in {entry.separator for entry in formats} | {None}}
    gaps = {entry.name: _list_gaps(path.name, headers[entry.separator], entry) for entry in formats}
    fitting = [entry for entry in formats if not gaps[entry.name]]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise DataError(
            f"{path}: fits the formats {', '.join(entry.name for entry in fitting)}; name one as norms.format of the culture"
        )
    nearest = min(formats, key=lambda entry: (len(gaps[entry.name]), -len(entry.recognised.has)), default=None)
    hint = f"nearest is {nearest.name}, but {'; '.join(gaps[nearest.name])}" if nearest else "no format is described"
    raise DataError(
        f"{path}, line 1: no known format of participants' trials ({hint}). The header holds: {', '.join(headers[None])}. "
        "Take the file as published, or describe it in notebooks/settings/formats/<name>.yaml"
    )


def load_trials(path: Path, form: Format, culture: Culture, language: Language) -> tuple[pd.DataFrame, dict[str, int]]:
    """Read a participant file of a known format and keep the culture's native speakers (`norms.native`).

    `participant, cue, R1, R2, R3, native`, one row a trial in the file's order; a missing response is an empty string, an unknown cue
    `UNKNOWN`, the marks of earlier cleaning stay; `native` is empty where the format names no such column. Beside it what was left out.
    DataError as `read_table`; an empty cue, a participant that is no number where the format says numbers (shifted columns), a missing
    participant file, or no trial left for the culture.
    """
    names, native = form.columns, culture.norms.native
    joined = (
        native is not None and form.join is not None and native.column.lower() not in _lower(read_header(path, form.separator))
    )
    wanted = {"cue": names.cue, **{key: getattr(names, key) for key in RESPONSES}}
    wanted |= {key: getattr(names, key) for key in ("participant", "native") if getattr(names, key) is not None}
    extra = [native.column] if native and not joined else []
    raw = read_table(path, [*dict.fromkeys([*wanted.values(), *extra])], separator=form.separator)
    speaker = raw[native.column] if extra else None
    frame = pd.DataFrame({key: raw[column] for key, column in wanted.items()})
    if "participant" not in frame:
        frame["participant"] = frame.index.astype(str)
    elif form.numeric_participant:
        parse_numbers(raw, names.participant, path, low=0, high=1e12)
    for key in ("cue", "participant"):
        empty = frame.index[frame[key] == ""]
        if len(empty):
            raise DataError(f"{path}, line {empty[0]}: empty {key} (column '{wanted[key]}'); the columns may be shifted")
    frame = frame.assign(native=frame.get("native", ""))[["participant", "cue", *RESPONSES, "native"]]
    if joined:
        speaker = _join_participants(path, form, native.column, frame["participant"])
    kept = frame if speaker is None else frame[speaker.isin(native.values)]
    if kept.empty:
        where = f"with {native.column} in {native.values}" if native else "at all"
        raise DataError(f"{path}: no trial {where}; culture '{culture.name}' cannot use this file")
    kept, missing = _mark_missing(kept.reset_index(drop=True), form, language)
    return kept, {"trials of other speakers left out": len(frame) - len(kept), "missing responses": missing}


def find_missing(responses: pd.Series, language: Language) -> pd.Series:
    """Boolean mask of the responses that stand for 'none' or 'unknown' (markers of the language, blank, redacted)."""
    bare = responses.str.strip('"')
    return bare.isin(["", *language.missing]) | bare.str.fullmatch(REDACTED)


def _mark_missing(frame: pd.DataFrame, form: Format, language: Language) -> tuple[pd.DataFrame, int]:
    markers = {"": "", **dict.fromkeys([*language.missing, *form.missing], ""), **dict.fromkeys(form.unknown, UNKNOWN)}
    for mark in form.marks:
        markers.pop(mark, None)
    total = 0
    for column in RESPONSES:
        words = frame[column].astype("category")
        bare = words.cat.categories.to_series(index=range(len(words.cat.categories))).str.strip('"')
        stands = bare.map(markers).where(~bare.str.fullmatch(REDACTED), "")
        given = stands.isna()
        plain = words.cat.categories.where(given, stands.fillna("").astype(str))
        total += int((~given.to_numpy())[words.cat.codes].sum())
        frame[column] = pd.Series(plain.take(words.cat.codes), index=frame.index)
    return frame, total


def _join_participants(path: Path, form: Format, column: str, participants: pd.Series) -> pd.Series:
    other = find_file(path.parent, form.join.files)
    if other is None:
        raise DataError(
            f"{path}: column {column} is not in it, and the participant file {' or '.join(form.join.files)} is not beside it; "
            "put it there, or take norms.native out of the culture"
        )
    table = read_table(other, [form.join.key, column], separator=form.separator)
    twice = table.index[table.duplicated(form.join.key)]
    if len(twice):
        raise DataError(
            f"{other}, line {twice[0]}: participant {table.loc[twice[0], form.join.key]} stands twice; keep one row"
        )
    known = participants.map(table.set_index(form.join.key)[column])
    lost = known.index[known.isna()]
    if len(lost):
        raise DataError(
            f"{path}, line {lost[0]}: participant {participants[lost[0]]} is not in {other.name}, nor are {len(lost) - 1} other "
            "trials' participants; take both files of one release"
        )
    return known


def _list_gaps(file: str, names: Sequence[str], form: Format) -> list[str]:
    header = _lower(names)
    gaps = [f"column {name} is missing" for name in form.recognised.has if name.lower() not in header]
    gaps += [f"column {name} is there" for name in form.recognised.lacks if name.lower() in header]
    name = file.removesuffix(".gz").lower()
    if form.recognised.files and not any(fnmatch(name, pattern.lower()) for pattern in form.recognised.files):
        gaps.append(f"the file's name is not like {' or '.join(form.recognised.files)}")
    return gaps


def _lower(names: Sequence[str]) -> set[str]:
    return {name.lower() for name in names}
