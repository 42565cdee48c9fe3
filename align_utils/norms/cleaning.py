"""From raw to clean trials: the steps of the published Small World of Words pipelines as functions on a frame.

Every step takes trials (`participant, cue, R1, R2, R3, native`; missing `""`, unknown cue `UNKNOWN`) and gives them back
with what it counted. Which steps run, in which order and with which constants is data: `notebooks/settings/formats/*.yaml`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from align_utils.config.settings import (
    RESPONSES,
    UNKNOWN,
    DropCues,
    FilterParticipants,
    MarkLong,
    MarkRepeats,
    RecodeDoubles,
    ReplaceWords,
    Rule,
    SelectBest,
    SplitJoined,
    Step,
    WordList,
)
from align_utils.store.textfiles import find_file, read_list

# Lists the reader gave, by file name and number of columns.
Lists = dict[tuple[str, int], list[tuple[str, ...]]]
Outcome = tuple[pd.DataFrame, dict[str, int]]


def load_lists(steps: Sequence[Step], folder: Path) -> Lists:
    """Read the lists of the steps that are in a folder (plain or gzipped); what is not there is left out."""
    found = {(words, columns): find_file(folder, [words.file]) for words, columns in _list_words(steps)}
    return {
        (words.file, columns): read_list(path, columns=columns, header=words.header)
        for (words, columns), path in found.items() if path is not None
    }  # fmt: skip


def clean_trials(
    trials: pd.DataFrame, steps: Sequence[Step], lists: Lists, marks: Sequence[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run the steps of a format over its trials.

    Parameters
    ----------
    trials : DataFrame
        As `files.load_trials` gives it.
    steps : sequence of Step
        Steps with their constants, in order.
    lists : dict
        `load_lists`; a step or rule whose list is not in it is skipped and the report says so.
    marks : sequence of str
        Marks that stand for a response that was taken out; they become missing at the end.

    Returns
    -------
    trials : DataFrame
        `participant, cue, R1, R2, R3` in the order given; missing and unknown responses are empty strings.
    report : DataFrame
        `step, what, count`, one row a thing counted; a skipped step or rule has the count 1.

    Source
    ------
    SWOWEN-2018 `preprocessData.R`, `settings.R`; SWOWZH `wordCleaning`, `participantCleaning`, `dataBalancing`.

    Examples
    --------
    >>> raw = pd.DataFrame({"participant": ["1"], "cue": ["dog"], "R1": ["cat"], "R2": ["cat"], "R3": ["bone"], "native": [""]})
    >>> clean, report = clean_trials(raw, [RecodeDoubles(step="recode_doubles")], {})
    >>> clean[["R1", "R2", "R3"]].values.tolist(), report["count"].tolist()
    ([['cat', 'bone', '']], [1, 1])
    """
    rows = []
    for step in steps:
        if trials.empty:
            break
        trials, counts = STEPS[step.step](trials, step, lists, frozenset(marks))
        name = step.step + (f" {'-'.join(step.columns)}" if isinstance(step, ReplaceWords) else "")
        rows += [{"step": name, "what": what, "count": int(count)} for what, count in counts.items()]
    gone = {column: trials[column].mask(trials[column].isin([UNKNOWN, *marks]), "") for column in RESPONSES}
    clean = trials.assign(**gone)[["participant", "cue", *RESPONSES]].reset_index(drop=True)
    return clean, pd.DataFrame(rows, columns=["step", "what", "count"])


def recode_doubles(trials: pd.DataFrame, step: RecodeDoubles, lists: Lists, marks: frozenset[str]) -> Outcome:
    """R2 = R1 and R3 = R2 become missing, then an R3 behind a missing R2 moves up (so R1 = R2 = R3 keeps R1 and R3, as published)."""
    first, second, third = (trials[column] for column in RESPONSES)
    double = (first == second) & ~first.isin(["", UNKNOWN])
    second = second.mask(double, "")
    again = (second == third) & ~second.isin(["", UNKNOWN])
    third = third.mask(again, "")
    moved = (second == "") & (third != "")
    second, third = second.mask(moved, third), third.mask(moved, "")
    counts = {"repeated responses made missing": double.sum() + again.sum(), "third responses moved up": moved.sum()}
    return trials.assign(R2=second, R3=third), counts


def replace_words(trials: pd.DataFrame, step: ReplaceWords, lists: Lists, marks: frozenset[str]) -> Outcome:
    """Replace whole cues or responses by the list's corrections, in one pass."""
    if (step.words.file, 2) not in lists:
        return trials, _say_missing(step.words)
    table, clashes = _build_table(lists[step.words.file, 2])
    counts = {f"entries of {step.words.file} against an earlier one, which holds": clashes} if clashes else {}
    kept = {word for (word,) in lists.get(_key(step.spare), [])} if step.spare else set()
    if step.spare and _key(step.spare) not in lists:
        counts |= _say_missing(step.spare)
    if step.settled:
        kept |= set(table.values())
    table = {word: correction for word, correction in table.items() if word not in kept and word != correction}
    changed, replaced = {}, 0
    for column in step.columns:
        hit = trials[column].isin(table)
        replaced += int(hit.sum())
        changed[column] = trials[column].mask(hit, trials.loc[hit, column].map(table))
    return trials.assign(**changed), {f"replaced by {step.words.file}": replaced, **counts}


def split_joined(trials: pd.DataFrame, step: SplitJoined, lists: Lists, marks: frozenset[str]) -> Outcome:
    """Split answers written into one field; of what the row then holds the first three stay."""
    if (step.words.file, 2) not in lists:
        return trials, _say_missing(step.words)
    parts = {
        word: [part.strip() for part in joined.split(",") if part.strip()][:3] for word, joined in lists[step.words.file, 2]
    }
    parts = {word: split for word, split in parts.items() if split and split != [word]}
    hit = np.column_stack([trials[column].isin(parts) for column in RESPONSES])
    rows = np.flatnonzero(hit.any(axis=1))
    cells = np.full((len(rows), 9), None, dtype=object)
    for place, column in enumerate(RESPONSES):
        words = trials[column].iloc[rows]
        cells[:, 3 * place] = words.where(~hit[rows, place], words.map({word: split[0] for word, split in parts.items()}))
        for number in (1, 2):
            more = {word: split[number] for word, split in parts.items() if len(split) > number}
            cells[:, 3 * place + number] = [more.get(word) for word in words]
    order = np.argsort(pd.isna(cells), axis=1, kind="stable")[:, :3]
    changed = trials.copy()
    changed.iloc[rows, [changed.columns.get_loc(column) for column in RESPONSES]] = np.take_along_axis(cells, order, axis=1)
    return changed, {"joined answers split": hit.sum()}


def mark_long(trials: pd.DataFrame, step: MarkLong, lists: Lists, marks: frozenset[str]) -> Outcome:
    """Replace long responses by the list; without it mark those of more than `over` characters."""
    if (step.words.file, 2) in lists:
        listed = ReplaceWords(step="replace_words", columns=RESPONSES, words=step.words)
        return replace_words(trials, listed, lists, marks)
    changed, counted = {}, 0
    for column in RESPONSES:
        long = (trials[column].str.len() > step.over) & ~trials[column].isin([UNKNOWN, *marks])
        counted += int(long.sum())
        changed[column] = trials[column].mask(long, step.mark)
    said = f"{step.words.file} is not beside the participant file: marked for more than {step.over} characters"
    return trials.assign(**changed), {said: counted}


def mark_repeats(trials: pd.DataFrame, step: MarkRepeats, lists: Lists, marks: frozenset[str]) -> Outcome:
    """Mark a response that the same person gave to the same cue before."""
    first, second, third = (trials[column] for column in RESPONSES)
    empty = ["", UNKNOWN, *marks]
    double = (second == first) & ~second.isin(empty)
    again = ((third == first) | (third == second)) & ~third.isin(empty)
    changed = trials.assign(R2=second.mask(double, step.mark), R3=third.mask(again, step.mark))
    return changed, {"repeats within a trial": double.sum() + again.sum()}


def filter_participants(trials: pd.DataFrame, step: FilterParticipants, lists: Lists, marks: frozenset[str]) -> Outcome:
    """Remove participants by the shares of their responses; the first rule that fits names why."""
    people, names = pd.factorize(trials["participant"])
    size = len(names)
    codes, words = pd.factorize(pd.concat([trials[column] for column in RESPONSES], ignore_index=True))
    of = {"people": np.tile(people, 3), "codes": codes, "words": pd.Series(words), "size": size, "marks": marks}
    status, counts = np.full(size, -1), {}
    for number, rule in enumerate(step.rules):
        if rule.words and _key(rule.words) not in lists:
            counts |= _say_missing(rule.words, f"rule {rule.status}")
            continue
        if rule.native:
            fits = np.zeros(size, dtype=bool)
            fits[people[trials["native"].isin(rule.native)]] = True
        else:
            share = measure_share(rule, lists, **of)
            fits = share > rule.above if rule.above is not None else share < rule.below
        status[fits & (status < 0)] = number
        counts[f"participants removed as {rule.status}"] = (status == number).sum()
    kept = status[people] < 0
    return trials[kept], {**counts, "trials of removed participants": (~kept).sum()}


def measure_share(
    rule: Rule, lists: Lists, *, people: np.ndarray, codes: np.ndarray, words: pd.Series, size: int, marks: frozenset[str]
) -> np.ndarray:
    """Share of each participant's responses that a rule counts, in [0, 1]; 0 where the base is empty.

    Parameters
    ----------
    rule : Rule
    lists : dict
        Must hold the rule's list.
    people, codes : ndarray of int, shape (n_responses,)
        Participant and distinct word of every response.
    words : Series
        The distinct words.
    size : int
        Number of participants.
    marks : frozenset of str

    Returns
    -------
    ndarray, shape (size,)
    """

    def count(flags: np.ndarray) -> np.ndarray:
        return np.bincount(people, weights=flags[codes], minlength=size)

    missing, unknown = (words == "").to_numpy(), (words == UNKNOWN).to_numpy()
    marked = words.isin(marks).to_numpy()
    valid = ~(missing | unknown | marked)
    listed = words.isin({word for (word,) in lists.get(_key(rule.words), [])}).to_numpy() if rule.words else None
    if rule.share == "empty":
        counted = count(missing | unknown)
    elif rule.share == "marked":
        counted = count((words == rule.mark).to_numpy())
    elif rule.share == "ngrams":
        counted = count(valid & ((words.str.count(r"\S+") + words.str.count("[,;]")) > 1).to_numpy())
    elif rule.share == "listed":
        counted = count(valid & listed)
    elif rule.share == "listed_types":
        counted = _count_types(people, codes, valid & listed, size)
    else:
        counted = count(valid) - _count_types(people, codes, valid, size) + count((words == rule.mark).to_numpy())
    if rule.both_markers_cost_one:
        counted = counted + ((count(missing) > 0) & (count(unknown) > 0))
    base = count(np.ones(len(words), dtype=bool) if rule.of == "all" else valid)
    return np.divide(counted, base, out=np.zeros(size), where=base > 0)


def select_best(trials: pd.DataFrame, step: SelectBest, lists: Lists, marks: frozenset[str]) -> Outcome:
    """Keep the best trials of every cue; equal ones at the limit all stay, or the first of the file."""
    key = trials["native"].map(step.native).fillna(0).to_numpy(dtype=float)
    if step.newest:
        numbers = trials["participant"].astype(float).to_numpy()
        key = key + numbers / max(numbers.max(), 1)
    if step.answered:
        key = key + sum((~trials[column].isin(["", UNKNOWN, *marks])).to_numpy() for column in RESPONSES)
    cues = pd.factorize(trials["cue"])[0]
    order = np.lexsort((-key, cues))
    sizes = np.bincount(cues)
    starts = np.cumsum(sizes) - sizes
    place = np.empty(len(key), dtype=int)
    place[order] = np.arange(len(key)) - starts[cues[order]]
    kept = place < step.per_cue
    if step.ties == "keep":
        last = key[order[starts + np.minimum(sizes, step.per_cue) - 1]]
        kept = key >= last[cues]
    small = sizes < step.per_cue
    counts = {f"trials beyond the best {step.per_cue} of their cue": (~kept).sum()}
    counts[f"cues with fewer than {step.per_cue}, {'left out' if step.drop_smaller else 'kept'}"] = small.sum()
    return trials[kept & ~small[cues] if step.drop_smaller else kept], counts


def drop_cues(trials: pd.DataFrame, step: DropCues, lists: Lists, marks: frozenset[str]) -> Outcome:
    """Leave out the cues of a list."""
    if _key(step.words) not in lists:
        return trials, _say_missing(step.words)
    out = trials["cue"].isin({word for (word,) in lists[_key(step.words)]})
    return trials[~out], {f"cues of {step.words.file} left out": trials.loc[out, "cue"].nunique(), "their trials": out.sum()}


STEPS = {
    "recode_doubles": recode_doubles, "replace_words": replace_words, "split_joined": split_joined, "mark_long": mark_long,
    "mark_repeats": mark_repeats, "filter_participants": filter_participants, "select_best": select_best, "drop_cues": drop_cues,
}  # fmt: skip


def _list_words(steps: Sequence[Step]) -> list[tuple[WordList, int]]:
    found = []
    for step in steps:
        if isinstance(step, FilterParticipants):
            found += [(rule.words, 1) for rule in step.rules if rule.words]
        elif isinstance(step, DropCues):
            found.append((step.words, 1))
        elif hasattr(step, "words"):
            found.append((step.words, 2))
        if getattr(step, "spare", None):
            found.append((step.spare, 1))
    return found


def _key(words: WordList) -> tuple[str, int]:
    return words.file, 1


def _say_missing(words: WordList, what: str = "step") -> dict[str, int]:
    return {f"{what} skipped: {words.file} is not beside the participant file": 1}


def _build_table(pairs: Sequence[tuple[str, str]]) -> tuple[dict[str, str], int]:
    table = dict(reversed(pairs))  # of several entries the first holds
    return table, sum(table[word] != correction for word, correction in pairs)


def _count_types(people: np.ndarray, codes: np.ndarray, flags: np.ndarray, size: int) -> np.ndarray:
    """Number of distinct words with the flag that each participant gave."""
    counted = flags[codes]
    distinct = pd.unique(people[counted].astype(np.int64) * len(flags) + codes[counted])
    return np.bincount(distinct // len(flags), minlength=size)
