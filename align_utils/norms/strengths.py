"""Word-association norms: official files of participants' trials and of strengths in, one tidy frame of strengths out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.settings import RESPONSES, UNKNOWN, Culture, DropCues, Format, Language
from align_utils.norms.cleaning import clean_trials, load_lists
from align_utils.store.textfiles import DataError, find_data_file, parse_numbers, read_header, read_table, refuse

# SWOW-ZH replaces politically sensitive responses by a 32-digit hash.
REDACTED = re.compile(r"[0-9a-f]{32}")
# What a spreadsheet makes of words: errors of '-ing' and '=', dates of 'march 2' and '1-12'.
ERROR = r"#(?:NAME\?|REF!|VALUE!|DIV/0!|NUM!|NULL!|N/A)"
_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
DATE = rf"\d{{1,2}}-{_MONTH}|{_MONTH}-\d{{2}}"


@dataclass(frozen=True)
class ReadNorms:
    """What was read of one culture.

    `norms` as from `load_strengths`, `published` where they come from a strength file; `trials` (`participant, cue, R1, R2, R3`) or None;
    `report`: what was repaired on reading and cleaned away, `step, what, count`, skipped steps included.
    """

    norms: pd.DataFrame
    published: bool
    trials: pd.DataFrame | None
    report: pd.DataFrame


def load_norms(cfg: Config) -> dict[str, ReadNorms]:
    """Norms of every culture of a run: its strength file, else strengths built from its native speakers' trials.

    A participant file that several cultures share is read once. DataError as from `find_norms`, and for what does not hold what it promises.
    """
    kind, read, loaded = cfg.profile.norms.responses, {}, {}
    for name, culture in cfg.cultures.items():
        language, native = cfg.language_of(name), culture.norms.native
        published, participants, notes = find_norms(cfg, name)
        rows, trials, cleaned = [("find", note, 1) for note in notes], None, None
        if participants is not None:
            form = find_format(participants, cfg.formats, culture.norms.format)
            key = participants, form.name, native and native.column, language.name
            if key not in read:
                read[key] = read_trials(participants, form, key[2], language)
            trials, repairs, cleaned = choose_trials(read[key], participants, form, culture)
            rows += [(f"read {participants.name}", *repair) for repair in repairs.items()]
        if published is None:
            frame = build_strengths(trials, language, kind)
        else:
            frame, repairs = load_strengths(published, language, kind)
            rows += [(f"read {published.name}", *repair) for repair in repairs.items()]
        report = pd.concat([pd.DataFrame(rows, columns=["step", "what", "count"]), cleaned], ignore_index=True)
        loaded[name] = ReadNorms(frame, published is not None, trials, report)
    return loaded


def find_norms(cfg: Config, culture: str) -> tuple[Path | None, Path | None, list[str]]:
    """A culture's strength file and its participant file, one of them perhaps None, and what lies beside them.

    DataError where neither is there: it lists the patterns, the source and the variable to set.
    """
    folder, given = cfg.data_dir / "swow", cfg.cultures[culture].norms
    find = partial(find_data_file, folder, never=given.never)
    strengths = given.strengths.get(cfg.profile.norms.responses, [])
    found = find(strengths), find(given.trials)
    (published, _), (participants, _) = found
    if published is None and participants is None:
        patterns = [*strengths, *given.trials]
        raise DataError(
            f"{folder}: no norms for culture '{culture}'; expected one of: {', '.join(patterns)}; {find(patterns)[1]}. Source: "
            "smallworldofwords.org, research page (CC BY-NC-ND); put the file there or set ALIGN_DATA=<folder>"
        )
    notes = [told.replace(str(folder), folder.name) for path, told in found if told and (path or " do not count: " in told)]
    return published, participants, notes


def load_strengths(path: Path, language: Language, responses: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """Read a published strength file: `cue, response, count, n, strength, rank`, sorted by cue and rank, and what was repaired.

    Of its columns `cue, response, R1|R123` (`responses`) and `N` are read; strength = count / n in (0, 1] is computed anew; ties stand in the
    order of the response's code points. Markers of missing responses are dropped and N is lowered by their count, forms that normalise alike
    are merged. DataError as `read_table`; a count or N that is no positive whole number or does not fit, one pair with two counts that do not
    belong together, words that a spreadsheet spoilt. Source: De Deyne et al. (2019), SWOW-EN18; Li et al. (2024), SWOW-ZH24.
    """
    raw = read_table(path, ["cue", "response", responses, "N"])
    count, n = (parse_numbers(raw, name, path, low=1, high=1e9, whole=True) for name in (responses, "N"))
    raw = raw[["cue", "response"]].assign(count=count, n=n)
    _require_words(path, raw, ["response"])
    refuse(path, raw, raw["count"] > raw["n"], "count {count} is above N {n}")
    several = raw.groupby("cue")["n"].transform("nunique") > 1
    refuse(path, raw, several, "cue '{cue}' has more than one N; take the file as published")
    # A pair may stand in two rows that both belong to N (Edinburgh Associative Thesaurus); else its double is a repeated row.
    whole = raw.groupby("cue")["count"].transform("sum") == raw["n"]
    frame = raw[whole | ~raw.duplicated(["cue", "response", "count"])]
    twice = frame.duplicated(["cue", "response"])
    said = "'{cue}' - '{response}' stands twice with different counts, and the cue's counts do not sum to N with both; keep the right row"
    refuse(path, frame, twice & ~whole[frame.index], said)
    marker = find_missing(frame["response"], language)
    # A marker that stood as a response was counted in N: what is left is the number of real responses.
    lost = frame["count"].where(marker, 0).groupby(frame["cue"]).transform("sum")
    given = frame.assign(n=frame["n"] - lost)[~marker]
    norms = _rank_forms(given, language)
    if norms.empty:
        raise DataError(f"{path}: every response is a missing one; take the file as published")
    repairs = {
        "identical rows dropped": len(raw) - len(frame), "missing markers dropped": int(marker.sum()),
        "spellings merged": len(given) - len(norms) - int((twice & ~marker).sum()),
    }  # fmt: skip
    if twice.any():
        repairs["rows of one pair summed"] = int(twice.sum())
    return norms, repairs


def build_strengths(trials: pd.DataFrame, language: Language, responses: str) -> pd.DataFrame:
    """Count trials into strengths: count / N with N = non-missing responses to the cue, over R1 or over R1+R2+R3.

    Source: SWOWEN-2018, `createAssoStrengthTable` (strength = count / N).

    >>> from align_utils import config
    >>> en = config.load("smoke").languages["en"]
    >>> trials = pd.DataFrame({"cue": ["dog"] * 2, "R1": ["cat", "cat"], "R2": ["bone", ""], "R3": ["", ""]})
    >>> build_strengths(trials, en, "R123")[["response", "count", "n"]].values.tolist()
    [['cat', 2, 3], ['bone', 1, 3]]
    """
    given = trials.melt("cue", ["R1"] if responses == "R1" else RESPONSES, value_name="response")
    given = given[given["response"] != ""].astype({"cue": "category", "response": "category"})
    counts = given.groupby(["cue", "response"], observed=True, sort=False).size().reset_index(name="count")
    return _rank_forms(counts.assign(n=counts.groupby("cue", observed=True)["count"].transform("sum")), language)


def normalise_words(words: pd.Series, language: Language) -> pd.Series:
    """Every word as `Language.normalise` writes it; each distinct word is written once."""
    return words.map({word: language.normalise(word) for word in words.unique()})


def find_missing(responses: pd.Series, language: Language) -> pd.Series:
    """Boolean mask of the responses that stand for 'none' or 'unknown' (markers of the language, blank, redacted)."""
    bare = responses.str.strip('"')
    return bare.isin(["", *language.missing]) | bare.str.fullmatch(REDACTED)


def find_format(path: Path, formats: Sequence[Format], name: str | None = None) -> Format:
    """The one format of `notebooks/settings/formats` that a participant file has, or the one its culture names.

    DataError where none fits (names the nearest and what it lacks) or several do.
    """
    gaps = {form.name: _list_gaps(path, form) if name is None else [] for form in formats}
    fitting = [form for form in formats if not gaps[form.name] and name in (None, form.name)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise DataError(
            f"{path}: fits the formats {', '.join(form.name for form in fitting)}; name one as norms.format of the culture"
        )
    nearest = min(formats, key=lambda form: (len(gaps[form.name]), -len(form.recognised.has)))
    raise DataError(
        f"{path}, line 1: no known format of participants' trials (nearest is {nearest.name}, but {'; '.join(gaps[nearest.name])}). The header "
        f"holds: {', '.join(read_header(path))}. Take the file as published, or describe it in notebooks/settings/formats/<name>.yaml"
    )


def read_trials(path: Path, form: Format, column: str | None, language: Language) -> pd.DataFrame:
    """All trials of a participant file of a known format: `participant, cue, R1, R2, R3, native, speaker` in the file's order.

    A missing response is an empty string, an unknown cue `UNKNOWN`, the marks of earlier cleaning stay; `native` is what the format's own
    steps read, `speaker` what `column` says of the speaker, empty without one. DataError as `read_table`; an empty cue, a participant that
    is no number where the format says numbers (shifted columns), a missing participant file.
    """
    names = form.columns.model_dump(exclude_none=True)
    joined = column and form.join and column.lower() not in map(str.lower, read_header(path))
    extra = [column] if column and not joined else []
    raw = read_table(path, [*dict.fromkeys([*names.values(), *extra])])
    given = {key: raw[name] for key, name in names.items()}
    frame = pd.DataFrame({"participant": raw.index.astype(str), "native": "", **given}, raw.index)
    if form.numeric_participant and "participant" in names:
        parse_numbers(raw, names["participant"], path, low=0, high=1e12)
    refuse(path, frame, frame["participant"] == "", "empty participant; the columns may be shifted")
    _require_words(path, frame, RESPONSES)
    frame["speaker"] = _join_participants(path, form, column, frame["participant"]) if joined else raw[column] if column else ""
    markers = dict.fromkeys(["", *language.missing, *form.missing], "") | dict.fromkeys(form.unknown, UNKNOWN)
    words = pd.Series(pd.unique(frame[RESPONSES].to_numpy().ravel()))
    bare = words.str.strip('"')
    stands = bare.mask(bare.isin(form.marks)).map(markers).fillna(words).mask(bare.str.fullmatch(REDACTED), "")
    plain = dict(zip(words, stands, strict=True))
    frame[RESPONSES] = frame[RESPONSES].apply(lambda column: column.map(plain))
    return frame[["participant", "cue", *RESPONSES, "native", "speaker"]]


def choose_trials(
    raw: pd.DataFrame, path: Path, form: Format, culture: Culture
) -> tuple[pd.DataFrame, dict[str, int], pd.DataFrame]:
    """Trials of a culture's native speakers, cleaned by the format's steps; what was left out; the report of `clean_trials`.

    Speakers are chosen first, so that the best trials of a cue are the best of this culture. Lists are looked for beside the file.
    DataError where no trial is left.
    """
    native = culture.norms.native
    own = raw if native is None else raw[raw["speaker"].isin(native.values)]
    if own.empty:
        where = f"with {native.column} in {native.values}" if native else "at all"
        raise DataError(f"{path}: no trial {where}; culture '{culture.name}' cannot use this file")
    doubles = culture.norms.doubles
    steps = [*form.steps, DropCues(step="drop_cues", words=doubles)] if doubles else form.steps
    clean, report = clean_trials(own, steps, load_lists(steps, path.parent), form.marks)
    if not (clean[RESPONSES] != "").any(axis=None):
        raise DataError(
            f"{path}: no response of culture '{culture.name}' is left after the steps of format {form.name}; see its YAML"
        )
    repairs = {
        "trials of other speakers left out": len(raw) - len(own),
        "missing responses": int(own[RESPONSES].isin(["", UNKNOWN]).to_numpy().sum()), "trials cleaned away": len(own) - len(clean),
        "cleaning steps skipped for want of a list": int(report["what"].str.contains(" skipped: ").sum()),
    }  # fmt: skip
    return clean, repairs, report


def _require_words(path: Path, frame: pd.DataFrame, responses: Sequence[str]) -> None:
    """What cannot be the author's: an empty cue, an error or a date of a spreadsheet, letters of another encoding."""
    remedy = "take the file as published, not saved by a spreadsheet"
    for column in ("cue", *responses):
        made = frame[column].str.fullmatch(f"{ERROR}|{DATE}" if column == "cue" else ERROR)
        refuse(path, frame, made, f"column {column}: '{{{column}}}' is what a spreadsheet made of a word; {remedy}")
    cues = frame["cue"]
    refuse(path, frame, cues == "", "empty cue; the columns may be shifted")
    lost = cues.str.fullmatch(r"\?+|.*\ufffd.*") | cues.isin([word for word in cues.unique() if _is_misread(word)])
    refuse(path, frame, lost, f"column cue: the letters of '{{cue}}' were lost in another encoding; {remedy}")


def _is_misread(word: str) -> bool:
    """Whether a word is UTF-8 that was read as Windows-1252, such as 'cafÃ©'."""
    try:
        return not word.isascii() and word.encode("cp1252").decode().isprintable()
    except UnicodeError:
        return False


def _rank_forms(frame: pd.DataFrame, language: Language) -> pd.DataFrame:
    """A cue's responses that normalise alike ('Cat', 'cat') summed under the most frequent form; strength and rank."""
    frame = frame.astype({"cue": "category", "response": "category"})  # several times as fast, sorted by code points
    frame["form"] = normalise_words(frame["response"].astype(object), language).astype("category")
    frame = frame[frame["form"] != ""].sort_values("count", ascending=False, kind="stable")  # of equal counts the file's first
    groups = frame.groupby(["cue", "form"], observed=True, sort=False)
    frame = groups.agg({"response": "first", "count": "sum", "n": "first"}).reset_index()
    frame = frame.sort_values(["cue", "count", "response"], ascending=[True, False, True], ignore_index=True)
    frame["strength"], frame["rank"] = frame["count"] / frame["n"], frame.groupby("cue", observed=True).cumcount() + 1
    for column in ("cue", "response"):
        frame[column] = frame[column].astype(frame[column].cat.categories.dtype)
    return frame[["cue", "response", "count", "n", "strength", "rank"]]


def _join_participants(path: Path, form: Format, column: str, participants: pd.Series) -> pd.Series:
    other, told = find_data_file(path.parent, form.join.files)
    if other is None:
        raise DataError(
            f"{path}: column {column} is not in it, and the participant file {' or '.join(form.join.files)} is not beside it (found {told}); "
            "put it there, or take norms.native out of the culture"
        )
    table = read_table(other, [form.join.key, column])
    refuse(other, table, table.duplicated(form.join.key), f"participant {{{form.join.key}}} stands twice; keep one row")
    known = participants.map(table.set_index(form.join.key)[column])
    trials = participants.to_frame("participant")
    refuse(path, trials, known.isna(), f"participant {{participant}} is not in {other.name}; take both files of one release")
    return known


def _list_gaps(path: Path, form: Format) -> list[str]:
    """What a file lacks to be of a format."""
    header, told, name = [*map(str.lower, read_header(path))], form.recognised, path.name.removesuffix(".gz").lower()
    gaps = [f"column {column} is missing" for column in told.has if column.lower() not in header]
    gaps += [f"column {column} is there" for column in told.lacks if column.lower() in header]
    if told.files and not any(fnmatch(name, pattern.lower()) for pattern in told.files):
        gaps.append(f"the file's name is not like {' or '.join(told.files)}")
    return gaps
