"""From raw to clean trials: the steps of the published Small World of Words pipelines as functions on a frame.

Every step takes trials (`participant, cue, R1, R2, R3, native`; missing `""`, unknown cue `UNKNOWN`) and gives them back
with what it counted. Which steps run, in which order and with which constants is data: `notebooks/settings/formats/*.yaml`.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from align_utils.config import settings
from align_utils.config.settings import RESPONSES, UNKNOWN, WordList
from align_utils.store.textfiles import find_data_file, read_list

# Lists the reader gave, by file name: rows of one or two columns.
Lists = dict[str, list[tuple[str, ...]]]
Outcome = tuple[pd.DataFrame, dict[str, int]]


def load_lists(steps: Sequence[settings.CleaningStep], folder: Path) -> Lists:
    """Read the lists of the steps that are in a folder (plain or gzipped); what is not there is left out."""
    used: dict[WordList, int] = {}
    for step in steps:
        single = [rule.words for rule in getattr(step, "rules", [])] + [getattr(step, "spare", None)]
        own = getattr(step, "words", None), 1 if isinstance(step, settings.DropCues) else 2
        for words, columns in [*((words, 1) for words in single), own]:
            if words:
                used[words] = max(columns, used.get(words, 1))
    found = {words: find_data_file(folder, [words.file])[0] for words in used}
    return {words.file: read_list(path, columns=used[words], header=words.header) for words, path in found.items() if path}


def clean_trials(
    trials: pd.DataFrame, steps: Sequence[settings.CleaningStep], lists: Lists, marks: Sequence[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run the steps of a format in order over its trials (`strengths.read_trials`); a step or rule whose list is not in `lists` is skipped.

    Gives `participant, cue, R1, R2, R3` in the order given, with empty strings for missing and unknown responses and for `marks` of what was
    taken out; and the report `step, what, count`, where a skipped step counts 1. Source: SWOWEN-2018 `preprocessData.R`, `settings.R`; SWOWZH
    `wordCleaning`, `participantCleaning`, `dataBalancing`.

    >>> from align_utils.config import settings
    >>> raw = pd.DataFrame({"participant": ["1"], "cue": ["dog"], "R1": ["cat"], "R2": ["cat"], "R3": ["bone"], "native": [""]})
    >>> clean, report = clean_trials(raw, [settings.RecodeDoubles(step="recode_doubles")], {})
    >>> clean[["R1", "R2", "R3"]].values.tolist(), report["count"].tolist()
    ([['cat', 'bone', '']], [1, 1])
    """
    rows = []
    for step in steps:
        if trials.empty:
            break
        words = getattr(step, "words", None)
        if words and words.file not in lists and not isinstance(step, settings.MarkLong):
            counts = _say_missing(words)
        else:
            trials, counts = STEPS[step.step](trials, step, lists, frozenset(marks))
        name = step.step + (f" {'-'.join(step.columns)}" if isinstance(step, settings.ReplaceWords) else "")
        rows += [{"step": name, "what": what, "count": int(count)} for what, count in counts.items()]
    gone = {column: trials[column].mask(trials[column].isin([UNKNOWN, *marks]), "") for column in RESPONSES}
    clean = trials.assign(**gone)[["participant", "cue", *RESPONSES]].reset_index(drop=True)
    return clean, pd.DataFrame(rows, columns=["step", "what", "count"])


def recode_doubles(trials: pd.DataFrame, step: settings.RecodeDoubles, lists: Lists, marks: frozenset[str]) -> Outcome:
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


def replace_words(trials: pd.DataFrame, step: settings.ReplaceWords, lists: Lists, marks: frozenset[str]) -> Outcome:
    """Replace whole cues or responses by the list's corrections, in one pass."""
    table = dict(reversed(lists[step.words.file]))  # of several entries the first holds
    kept, counts = set(table.values()) if step.settled else set(), {}
    if step.spare and step.spare.file in lists:
        kept |= _take(lists, step.spare)
    elif step.spare:
        counts = _say_missing(step.spare)
    table = {word: correction for word, correction in table.items() if word not in kept and word != correction}
    old = trials[step.columns]
    new = old.apply(lambda words: words.map(table).fillna(words))
    return trials.assign(**new), {f"replaced by {step.words.file}": (new != old).to_numpy().sum(), **counts}


def split_joined(trials: pd.DataFrame, step: settings.SplitJoined, lists: Lists, marks: frozenset[str]) -> Outcome:
    """Split answers written into one field; of what the row then holds the first three stay."""
    pairs = lists[step.words.file]
    parts = {word: [part.strip() for part in joined.split(",") if part.strip()] for word, joined in pairs}
    parts = {word: split for word, split in parts.items() if split and split != [word]}
    hit = trials[RESPONSES].isin(parts.keys()).to_numpy()
    rows, changed = hit.any(axis=1), trials.copy()
    given = trials.loc[rows, RESPONSES].to_numpy()
    changed.loc[rows, RESPONSES] = [[part for word in row for part in parts.get(word, [word])][:3] for row in given]
    return changed, {"joined answers split": hit.sum()}


def mark_long(trials: pd.DataFrame, step: settings.MarkLong, lists: Lists, marks: frozenset[str]) -> Outcome:
    """Replace long responses by the list; without it mark those of more than `over` characters."""
    if step.words.file in lists:
        listed = settings.ReplaceWords(step="replace_words", columns=RESPONSES, words=step.words)
        return replace_words(trials, listed, lists, marks)
    given = trials[RESPONSES]
    long = given.apply(lambda words: words.str.len() > step.over) & ~given.isin([UNKNOWN, *marks])
    said = f"{step.words.file} is not beside the participant file: marked for more than {step.over} characters"
    return trials.assign(**given.mask(long, step.mark)), {said: long.to_numpy().sum()}


def mark_repeats(trials: pd.DataFrame, step: settings.MarkRepeats, lists: Lists, marks: frozenset[str]) -> Outcome:
    """Mark a response that the same person gave to the same cue before."""
    given = trials[RESPONSES]
    words = given.mask(given.isin(["", UNKNOWN, *marks]))
    again = pd.DataFrame({
        "R1": False, "R2": words["R2"] == words["R1"], "R3": (words["R3"] == words["R1"]) | (words["R3"] == words["R2"]),
    })  # fmt: skip
    return trials.assign(**given.mask(again, step.mark)), {"repeats within a trial": again.to_numpy().sum()}


def filter_participants(
    trials: pd.DataFrame, step: settings.FilterParticipants, lists: Lists, marks: frozenset[str]
) -> Outcome:
    """Remove participants by the shares of their responses; the first rule that fits names why."""
    given = trials.astype({"participant": "category"}).melt("participant", RESPONSES, value_name="word")[
        ["participant", "word"]
    ]
    removed, counts = set(), {}
    for rule in step.rules:
        if rule.words and rule.words.file not in lists:
            counts |= _say_missing(rule.words, f"rule {rule.status}")
            continue
        if rule.native:
            fits = trials.loc[trials["native"].isin(rule.native), "participant"]
        else:
            share = measure_share(rule, lists, given, marks)
            fits = share.index[share > rule.above if rule.above is not None else share < rule.below]
        counts[f"participants removed as {rule.status}"] = len(set(fits) - removed)
        removed |= set(fits)
    out = trials["participant"].isin(removed)
    return trials[~out], {**counts, "trials of removed participants": out.sum()}


def measure_share(rule: settings.Rule, lists: Lists, given: pd.DataFrame, marks: frozenset[str]) -> pd.Series:
    """Share of each participant's responses (`participant, word`) that a rule counts, in [0, 1]; 0 where the base is empty."""
    words = given["word"]
    missing, unknown, marked = words == "", words == UNKNOWN, words == rule.mark
    valid = ~(missing | unknown | words.isin(marks))
    if rule.share == "empty":
        counted = missing | unknown
    elif rule.share == "marked":
        counted = marked
    elif rule.share == "ngrams":
        joined = [word for word in words.unique() if len(word.split()) + word.count(",") + word.count(";") > 1]
        counted = valid & words.isin(joined)
    elif rule.share == "repeated":
        counted = (valid & given.duplicated()) | marked
    else:
        counted = valid & words.isin(_take(lists, rule.words))
        if rule.share == "listed_types":
            counted &= ~given.duplicated()
    flags = pd.DataFrame({"counted": counted, "base": valid | (rule.of == "all"), "missing": missing, "unknown": unknown})
    sums = flags.groupby(given["participant"], observed=True).sum()
    extra = (sums["missing"] > 0) & (sums["unknown"] > 0) & rule.both_markers_cost_one
    return ((sums["counted"] + extra) / sums["base"]).where(sums["base"] > 0, 0.0)


def select_best(trials: pd.DataFrame, step: settings.SelectBest, lists: Lists, marks: frozenset[str]) -> Outcome:
    """Keep the best trials of every cue; equal ones at the limit all stay, or the first of the file."""
    score = trials["native"].map(step.native).astype(float).fillna(0.0)
    if step.newest:
        numbers = trials["participant"].astype(float)
        score += numbers / max(numbers.max(), 1)
    if step.answered:
        score += (~trials[RESPONSES].isin(["", UNKNOWN, *marks])).sum(axis=1)
    cues = score.groupby(trials["cue"])
    kept = cues.rank(method="min" if step.ties == "keep" else "first", ascending=False) <= step.per_cue
    small = cues.transform("size") < step.per_cue
    fewer = f"cues with fewer than {step.per_cue}, {'left out' if step.drop_smaller else 'kept'}"
    few = trials.loc[small, "cue"].nunique()
    counts = {f"trials beyond the best {step.per_cue} of their cue": (~kept).sum(), fewer: few}
    return trials[kept & ~small if step.drop_smaller else kept], counts


def drop_cues(trials: pd.DataFrame, step: settings.DropCues, lists: Lists, marks: frozenset[str]) -> Outcome:
    """Leave out the cues of a list."""
    out = trials["cue"].isin(_take(lists, step.words))
    return trials[~out], {f"cues of {step.words.file} left out": trials.loc[out, "cue"].nunique(), "their trials": out.sum()}


STEPS = {
    "recode_doubles": recode_doubles, "replace_words": replace_words, "split_joined": split_joined, "mark_long": mark_long,
    "mark_repeats": mark_repeats, "filter_participants": filter_participants, "select_best": select_best, "drop_cues": drop_cues,
}  # fmt: skip


def _take(lists: Lists, words: WordList) -> set[str]:
    """The first column of a list."""
    return {word for word, *_ in lists[words.file]}


def _say_missing(words: WordList, what: str = "step") -> dict[str, int]:
    return {f"{what} skipped: {words.file} is not beside the participant file": 1}
