"""Concreteness, valence, arousal and dominance of associations: files read and checked, words matched, means, human level."""

import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from align_utils.config.profiles import Config
from align_utils.config.settings import Language, Rating, RatingSource
from align_utils.lexical.precision import RATED, add_families
from align_utils.norms.split import CultureNorms, fold_words
from align_utils.norms.strengths import normalise_words
from align_utils.stats import ALPHA, compare, pair_conditions, summarise
from align_utils.store.steps import note_read
from align_utils.store.textfiles import ENDINGS, DataError, find_data_file, parse_numbers, read_table

EXTRA = "pip install -c constraints.txt -e '.[ratings]'"
# Fewer anchors than this at either end show nothing.
FEWEST_WORDS = 3
# Shares of (high, low) anchor pairs in the right order: all published files give 1; a reversed one 0; a column of standard
# deviations about a half.
ORDERED = 0.8
# Share of words with a character of the other script from which a file counts as written in it; the simplified files give 0.
FOREIGN_WORDS = 0.02
# Published ratings fill 77 % of their scale or more; under this share of it, by so many words, the scale is another one.
NARROW, ENOUGH = 0.55, 100
MATCHES = ("exact", "lemma", "unrated")
# People's list of a model's length beside all that they gave, for what the length alone does to a mean.
PEOPLE = ("human", f"human_top{RATED}")
RATING_GROUP = ["model", "culture", "rating"]
RATING_COLUMNS = ["language", "rating", "file", "words", "scale", "lowest", "highest", "anchors", "note"]
# Differences in rating that are reported: what tuning moves, and how far PPO lies from people.
RATING_CONTRASTS = (("ppo", "few_shot"), ("sft", "few_shot"), ("ppo", "human"))
Scales = dict[str, dict[str, pd.Series]]


def load_scales(cfg: Config) -> tuple[Scales, pd.DataFrame]:
    """Ratings of every culture's language (culture to rating to Series), and what was read and checked; DataError as `load_rating`.

    The table has one row a language and rating (`RATING_COLUMNS`; `file` says 'not measured' and why where there is none).
    """
    loaded = {name: load_ratings(cfg, language) for name, language in cfg.languages.items()}
    scales = {name: loaded[culture.language][0] for name, culture in cfg.cultures.items()}
    return scales, pd.DataFrame([row for _, rows in loaded.values() for row in rows], columns=RATING_COLUMNS)


def load_ratings(cfg: Config, language: Language) -> tuple[dict[str, pd.Series], list[dict]]:
    """All ratings of a language that the run's data folder holds, and a row (`RATING_COLUMNS`) for each, found or 'not measured'."""
    found, rows = {}, []
    for name, rating in language.ratings.items():
        path, told, source = find_rating(cfg, rating)
        row = {"language": language.name, "rating": name, "file": f"not measured: {told}"}
        if path:
            found[name], report = load_rating(path, source, rating, language, name=name)
            row |= report | {"file": path.name, "note": "; ".join(filter(None, [report["note"], told]))}
        rows.append(row)
    return found, sorted(rows, key=lambda row: row["rating"] not in found)


def find_rating(cfg: Config, rating: Rating) -> tuple[Path | None, str, RatingSource | None]:
    """The file of a rating in the run's data folder, what to say of it, and the form that it has; without one which names would have done."""
    folder, endings, wanted = cfg.data_dir / "ratings", (*ENDINGS, ".xlsx"), []
    for source in rating.sources:
        path, told = find_data_file(folder, source.files, endings=endings)
        if path:
            return path, told, source
        wanted += source.files
    near = re.search(r"do not count: .*?(?=; of another name|$)", find_data_file(folder, wanted, endings=endings)[1])
    return None, f"none of {', '.join(wanted)}" + (f"; {near[0]}" if near else ""), None


def load_rating(
    path: Path, source: RatingSource, rating: Rating, language: Language, *, name: str
) -> tuple[pd.Series, dict[str, object]]:
    """Read one rating and check that its scale and script are what the language's YAML says; `name` is for the messages.

    A reversed scale (Xu & Li 2020: 1 very concrete) is turned as low + high - x; a form with other scale ends than the rating's
    (Xu et al. 2022: valence -3 to 3) is put on the rating's scale linearly. Words that normalise alike are averaged. Returns
    the rating in [rating.low, rating.high], indexed by normalised word, and the report: `words, scale, lowest, highest,
    anchors, note`.

    DataError: see `read_table`; a value lies outside the scale, or all lie in a part of it; the anchors are in the wrong order
    or in none; the file is in another script or a workbook and the package that reads it is not installed. Formats: Brysbaert
    et al. 2014, Warriner et al. 2013, Xu & Li 2020, Xu et al. 2022, Lee et al. 2022 (Chinese EmoBank).
    """
    columns, field = [source.word, source.value], f"notebooks/settings/languages/{language.name}.yaml, ratings.{name}.sources"
    if path.suffix.lower() == ".xlsx":
        frame = _read_sheet(path, columns, source.sheet)
    else:
        frame = _read_dictionary(path, columns) if path.suffix in {".yaml", ".yml"} else read_table(path, columns)
    frame = frame[~frame[source.value].str.upper().isin(["", "NA", "#N/A"])]
    if frame.empty:
        raise DataError(f"{path}: column '{source.value}' holds no value")
    low, high = (rating.low if source.low is None else source.low), (rating.high if source.high is None else source.high)
    values = parse_numbers(frame, source.value, path, low=low, high=high)
    lowest, highest, notes = values.min(), values.max(), []
    if len(values) >= ENOUGH and highest - lowest < NARROW * (high - low):
        raise DataError(
            f"{path}, column '{source.value}': expected ratings from {low:g} to {high:g}, found all {len(values)} between "
            f"{lowest:g} and {highest:g}; set low and high of this source ({field}) to the file's own scale"
        )
    words = frame[source.word]
    if language.other_script is not None:
        words, notes = _convert_script(words, path, language)
    if source.reversed:
        values = low + high - values
        notes.append(f"turned: {low + high:g} - x")
    if (low, high) != (rating.low, rating.high):
        values = rating.low + (values - low) * (rating.high - rating.low) / (high - low)
        notes.append(f"put from {low:g} to {high:g} on the scale linearly")
    values = values.groupby(words.map(language.normalise)).mean().drop("", errors="ignore")
    if len(values) < len(words):
        notes.append(f"{len(words) - len(values)} rows averaged with a row of the same word")
    anchors, problem = _check_anchors(values, source, rating, language)
    if problem:
        raise DataError(f"{path}: expected high {name} ratings of the high anchors, found {problem} in {field}")
    return values, {
        "words": len(values), "scale": f"{rating.low:g} to {rating.high:g}", "lowest": lowest, "highest": highest,
        "anchors": anchors, "note": "; ".join(notes),
    }  # fmt: skip


def _check_anchors(values: pd.Series, source: RatingSource, rating: Rating, language: Language) -> tuple[str, str]:
    """What the anchor words show of the scale's direction; beside it what is wrong and the remedy, if anything is."""
    wanted = (rating.anchors.high, rating.anchors.low)
    ends = [values.reindex([language.normalise(word) for word in words]).dropna() for words in wanted]
    present = f"{len(ends[0])} of {len(wanted[0])} high and {len(ends[1])} of {len(wanted[1])} low anchors"
    if min(map(len, ends)) < FEWEST_WORDS:
        return f"not checked: {present} in the file", ""
    share = float((ends[0].to_numpy()[:, None] > ends[1].to_numpy()).mean())
    if share >= ORDERED:
        return f"in order: {present}", ""
    (high, first), (low, last) = ((end.mean(), ", ".join(list(end.index)[:6])) for end in ends)
    remedy = f"the column does not hold this rating: see 'value: {source.value}'"
    if share <= 1 - ORDERED:
        now, then = (str(flag).lower() for flag in (source.reversed, not source.reversed))
        remedy = f"the scale is reversed: set 'reversed: {then}' (now {now})"
    return "", f"mean {high:.2f} of the high anchors ({first} ...) and {low:.2f} of the low ones ({last} ...); {remedy}"


def _convert_script(words: pd.Series, path: Path, language: Language) -> tuple[pd.Series, list[str]]:
    script = language.other_script
    share = words.map(lambda word: not set(script.marks).isdisjoint(word)).mean()
    if share < FOREIGN_WORDS:
        return words, []
    if find_spec("opencc") is None:
        raise DataError(
            f"{path}: expected {language.label} words as the norms write them, found {script.name} script ({share:.0%} of the "
            f"words hold one of its commonest characters); the package OpenCC converts it: {EXTRA}"
        )
    import opencc

    converted = words.map(opencc.OpenCC(script.convert).convert)
    return converted, [f"{script.name} script: {(converted != words).sum()} of {len(words)} words converted"]


def _read_sheet(path: Path, columns: list[str], sheet: str | None) -> pd.DataFrame:
    if find_spec("openpyxl") is None:
        raise DataError(f"{path}: a workbook, which the package openpyxl reads: {EXTRA}; or save the sheet as CSV (UTF-8)")
    try:
        with pd.ExcelFile(note_read(path), engine="openpyxl") as book:
            sheets = book.sheet_names
            frame = pd.read_excel(book, sheet if sheet in sheets else sheets[0], dtype=str, keep_default_na=False)
    except Exception as error:  # a damaged workbook ends in whatever openpyxl stumbles over
        raise DataError(f"{path}: no workbook, or a damaged one ({error}); fetch it again") from error
    if sheet is not None and sheet not in sheets:
        raise DataError(f"{path}: sheet '{sheet}' not found; the workbook holds: {', '.join(sheets)}")
    names = {str(column).strip().lower(): column for column in frame.columns}
    missing = [column for column in columns if column.lower() not in names]
    if missing:
        raise DataError(f"{path}, row 1: column {', '.join(missing)} not found; it holds: {', '.join(map(str, frame.columns))}")
    frame = frame[[names[column.lower()] for column in columns]].set_axis(columns, axis=1)
    frame.index = frame.index + 2
    return frame.apply(lambda column: column.str.strip())


def _read_dictionary(path: Path, columns: list[str]) -> pd.DataFrame:
    """`Dictionary: {word: {value: number}}` (cntext), each entry indexed by its line."""
    word, value = columns
    try:
        # Nodes instead of objects: 'no' stays a word, and each entry knows its line.
        root = yaml.compose(note_read(path).read_text(encoding="utf-8"), Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
        entries = next(node for key, node in root.value if key.value == "Dictionary").value
        rows = [
            (key.start_mark.line + 1, key.value, next(v.value for k, v in node.value if k.value == value))
            for key, node in entries
        ]
        frame = pd.DataFrame(rows, columns=["line", word, value]).set_index("line")
        if frame.empty or not frame.map(lambda text: isinstance(text, str)).all(axis=None):
            raise ValueError("no such entry, or a list in its place")
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except (StopIteration, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: expected 'Dictionary: {{word: {{{value}: number}}}}', found another structure") from error
    return frame.apply(lambda column: column.str.strip())


def match_words(words: Iterable[str], scale: pd.Series, language: Language) -> pd.DataFrame:
    """The rating of each normalised word, people's and models' alike: its own, else that of its lemma.

    Responses of several words count by exact match alone. Returns `value` (NaN where unrated) and `match` ('exact', 'lemma', 'unrated'),
    indexed by distinct word.

    >>> from align_utils import config
    >>> en = config.load("smoke").languages["en"]
    >>> match_words(["dog", "dogs", "hot dogs"], pd.Series({"dog": 4.9, "hot dog": 4.8}), en)
              value    match
    dog         4.9    exact
    dogs        4.9    lemma
    hot dogs    NaN  unrated
    """
    found = pd.DataFrame({"value": scale.reindex(pd.Index(dict.fromkeys(words), dtype=str))}, dtype=float)
    found["match"] = np.where(found["value"].notna(), "exact", "unrated")
    # Without a lemmatiser only endings would be dropped, and 女儿 (daughter) is not rated as 女 is.
    if language.lemmatiser:
        left = [word for word in found.index[found["value"].isna()] if " " not in word]
        lemmas = scale.reindex(list(fold_words(left, language, "lemma").values())).set_axis(left).dropna()
        found.loc[lemmas.index, "value"], found.loc[lemmas.index, "match"] = lemmas, "lemma"
    return found


def weigh_responses(lists: pd.DataFrame, language: Language) -> pd.DataFrame:
    """Lists in long form: `cue, word` (normalised), `weight` (sums to 1 a cue); no row for a cue without responses.

    `lists`: `cue, responses`, optionally `weights` (list of float beside the responses; default all alike). One row a cue.
    """
    rows = lists.assign(weights=lists["weights"] if "weights" in lists else [[1.0] * len(r) for r in lists["responses"]])
    rows = rows.loc[rows["responses"].map(len) > 0, ["cue", "responses", "weights"]].explode(["responses", "weights"])
    weight = rows["weights"].astype(float)
    share = weight / weight.groupby(rows["cue"]).transform("sum")
    return pd.DataFrame(
        {"cue": rows["cue"], "word": normalise_words(rows["responses"], language), "weight": share}
    ).reset_index(drop=True)


def rate_responses(lists: pd.DataFrame, scales: dict[str, pd.Series], language: Language) -> pd.DataFrame:
    """Mean rating of each cue's responses (`lists` as in `weigh_responses`).

    Returns `cue, rating, value` (NaN where nothing is rated), `exact, lemma, unrated` (shares of the response weight, which sum to 1; NaN
    for a cue without responses).
    """
    long, parts, columns = weigh_responses(lists, language), [], ["cue", "rating", "value", *MATCHES]
    for name, scale in scales.items():
        found = match_words(long["word"], scale, language).loc[long["word"]].reset_index(drop=True)
        mass = long["weight"].where(found["value"].notna(), 0.0)
        sums = pd.DataFrame({"cue": long["cue"], "value": mass * found["value"].fillna(0.0), "mass": mass})
        sums = sums.assign(**{match: long["weight"].where(found["match"] == match, 0.0) for match in MATCHES})
        table = sums.groupby("cue").sum().reindex(lists["cue"])
        table["value"] = table["value"] / table["mass"].where(table["mass"] > 0)
        parts.append(table.reset_index().assign(rating=name)[columns])
    return pd.concat(parts, ignore_index=True)


def list_conditions(
    models: Iterable[str], lists: pd.DataFrame, culture: str, own: CultureNorms
) -> dict[tuple[str, str], pd.DataFrame]:
    """(Model, stage) to `cue, responses` of one culture: five responses of every list, all of people's by strength, and their five strongest."""
    part = own.norms[own.norms["cue"].isin(set(own.cues["test"]))]
    everything = part.groupby("cue").agg(responses=("response", list), weights=("strength", list)).reset_index()
    ordered = part.sort_values(["cue", "strength", "response"], ascending=[True, False, True])
    strongest = ordered.groupby("cue").head(RATED).groupby("cue").agg(responses=("response", list)).reset_index()
    conditions = {}
    for model in models:
        mine = lists.loc[(lists["culture"] == culture) & (lists["model"] == model), ["stage", "cue", "responses"]]
        mine = mine.assign(responses=mine["responses"].map(lambda words: list(words)[:RATED]))
        conditions |= {(model, PEOPLE[0]): everything, (model, PEOPLE[1]): strongest}
        conditions |= {(model, name): part for name, part in mine.groupby("stage", sort=False)}
    return conditions


def rate_conditions(cfg: Config, lists: pd.DataFrame, people: dict[str, CultureNorms], scales: Scales) -> pd.DataFrame:
    """Mean ratings of the responses of people and of every stage to every test cue; nothing is left out yet.

    People stand there twice: `human`, all their responses by strength, and `human_top5`, their five strongest alike, which are as many as a
    model's list counts with. Returns `model, culture, label, stage, cue, rating`, and `value, exact, lemma, unrated` of `rate_responses`.
    Ratings that one culture of the run has and another has not keep their rows, empty: what was not measured is shown as such.
    """
    parts, columns = [], ["model", "culture", "label", "stage", "cue", "rating", "value", *MATCHES]
    wanted = list(dict.fromkeys(name for found in scales.values() for name in found))
    if not wanted:
        return pd.DataFrame(columns=columns)
    for culture, own in people.items():
        found = {name: scales[culture].get(name, pd.Series(dtype=float)) for name in wanted}
        for (model, name), part in list_conditions(cfg.models, lists, culture, own).items():
            table = rate_responses(part, found, cfg.language_of(culture))
            parts.append(table.assign(model=model, culture=culture, label=cfg.label(model, culture), stage=name))
    frame = pd.concat(parts, ignore_index=True)[columns]
    return frame.sort_values("rating", key=lambda names: names.map(wanted.index), kind="stable", ignore_index=True)


def pair_with_people(frame: pd.DataFrame) -> pd.DataFrame:
    """Beside every row people's value of the same cue (`human`); both empty unless both sides have one."""
    people = frame.loc[frame["stage"] == "human", [*RATING_GROUP, "cue", "value"]].rename(columns={"value": "human"})
    both = frame.merge(people, on=[*RATING_GROUP, "cue"], how="left", validate="many_to_one")
    known = both["value"].notna() & both["human"].notna()
    return both.assign(value=both["value"].where(known), human=both["human"].where(known))


def summarise_ratings(frame: pd.DataFrame, families: dict, **bootstrap) -> pd.DataFrame:
    """Mean and median of each rating over the cues that the stage and people both have, with people's beside it.

    `frame` is from `rate_conditions`, `families` from `norms.map_families`. Returns `model, culture, rating, stage, statistic,
    value, low, high` (interval over families), `n` (cues in it), `human` (the same statistic of people over these n cues),
    `mask` (which cues), `cues` (asked), `empty` (of them without a response), `exact, lemma, unrated` (mean shares of the
    response weight over the cues that have responses).
    """
    by, parts = [*RATING_GROUP, "stage"], []
    both = add_families(pair_with_people(frame), families)
    cover = frame.groupby(by).agg(
        cues=("cue", "size"), listed=("exact", "count"), **{match: (match, "mean") for match in MATCHES}
    )  # fmt: skip
    cover = cover.assign(empty=cover["cues"] - cover["listed"]).reset_index()[[*by, "cues", "empty", *MATCHES]]
    for name, function in (("mean", np.mean), ("median", np.median)):
        table = summarise(both, by, "value", unit="family", statistic=function, **bootstrap)
        human = both.groupby(by)["human"].agg(name).reset_index()
        parts.append(table.merge(human, on=by).assign(statistic=name))
    table = pd.concat(parts).merge(cover, on=by)
    table["mask"] = np.where(table["stage"] == "human", "cues rated for people", "cues rated for the stage and people")
    columns = [*by, "statistic", "value", "low", "high", "n", "human", "mask", "cues", "empty", *MATCHES]
    return table.sort_values([*RATING_GROUP, "statistic"], kind="stable", ignore_index=True)[columns]


def compare_ratings(frame: pd.DataFrame, families: dict, **bootstrap) -> pd.DataFrame:
    """Paired differences in mean rating of RATING_CONTRASTS, between two stages or a stage and people, over the cues which both have.

    Returns `stats.compare`'s columns with `median` (difference of the two medians over the same cues).
    """
    frame = add_families(frame, families)
    where = {"over": "stage", "unit": "family"}
    table = compare(frame, RATING_GROUP, "value", pairs=RATING_CONTRASTS, key="cue", **where, **bootstrap)
    both = pd.concat(
        [
            pair_conditions(frame, RATING_GROUP, "value", new=new, old=old, paired=["cue"], **where)
            for new, old in RATING_CONTRASTS
        ]
    )
    medians = both.groupby([*RATING_GROUP, "comparison"])[["value", "value_old"]].median()
    medians["median"] = medians["value"] - medians["value_old"]
    return table.merge(medians["median"].reset_index(), on=[*RATING_GROUP, "comparison"])


def show_equivalence(differences: Sequence[float], groups: Sequence, margin: float) -> dict[str, float]:
    """Two one-sided t-tests (TOST; Schuirmann 1987) of a mean difference against ±margin, over the means of whole groups (families).

    Returns `value` (mean), `low, high` (90 % interval, which lies within ±margin where p < 0.05), `n` (groups), `margin`, `p` (the larger
    of the two one-sided p) and `power` (the chance of p < 0.05 for two means that do not differ, with groups that differ as much as these);
    NaN for fewer than two groups.

    >>> found = show_equivalence([0.1, -0.1, 0.2, -0.2, 0.0], list("abcde"), 0.5)
    >>> round(found["p"], 4), round(found["power"], 2)
    (0.0011, 0.99)
    """
    means = pd.Series(np.asarray(differences, dtype=float)).groupby(np.asarray(groups)).mean().to_numpy()
    nothing = dict.fromkeys(["low", "high", "p", "power"], np.nan)
    found = {"value": float(np.mean(means)), "n": len(means), "margin": margin, **nothing}
    if len(means) < 2:
        return found
    lower = stats.ttest_1samp(means, -margin, alternative="greater")
    upper = stats.ttest_1samp(means, margin, alternative="less")
    interval = stats.ttest_1samp(means, 0.0).confidence_interval(0.9)
    error, free = stats.sem(means), len(means) - 1
    reach = margin / error - stats.t.ppf(0.95, free) if error > 0 else np.inf
    return {
        **found, "low": float(interval.low), "high": float(interval.high), "p": float(max(lower.pvalue, upper.pvalue)),
        "power": float(max(0.0, 2 * stats.t.cdf(reach, free) - 1)),
    }  # fmt: skip


def judge_human_level(cfg: Config, frame: pd.DataFrame, people: dict[str, CultureNorms], families: dict) -> pd.DataFrame:
    """Equivalence of every stage's mean ratings with people's, over the cues that both have, within the margin that the profile fixes.

    The margin is `ratings.margin` of the scale's length. People's own five strongest responses are judged like a stage: where
    they do not pass, a list of five words cannot, and no stage's verdict counts. `frame` is from `rate_conditions`.

    Returns `model, culture, rating, stage` (`human_top5` first), `value` (mean paired difference from people), `low, high` (90
    %), `n` (families), `margin, p, power` (`show_equivalence`), `cues`, `verdict` ('at human level'; 'differs', with an
    interval that leaves out 0; 'not shown'; 'not testable').
    """
    rows = []
    for culture in people:
        mine = pair_with_people(frame[frame["culture"] == culture]).dropna(subset="value")
        rules = cfg.language_of(culture).ratings
        for (rating, model), cells in mine[mine["stage"] != PEOPLE[0]].groupby(["rating", "model"], sort=False):
            margin, passed = cfg.profile.ratings.margin * (rules[rating].high - rules[rating].low), None
            for name, part in sorted(cells.groupby("stage", sort=False), key=lambda cell: cell[0] != PEOPLE[1]):
                shown = show_equivalence(part["value"] - part["human"], add_families(part, families)["family"], margin)
                level = bool(shown["p"] < ALPHA)
                passed = level if name == PEOPLE[1] else passed
                apart = shown["low"] > 0 or shown["high"] < 0
                verdict = "not testable" if not passed else "at human level" if level else "differs" if apart else "not shown"
                cell = {"model": model, "culture": culture, "rating": rating, "stage": name}
                rows.append({**cell, **shown, "cues": len(part), "verdict": verdict})
    columns = [*RATING_GROUP, "stage", "value", "low", "high", "n", "margin", "p", "power", "cues", "verdict"]
    return pd.DataFrame(rows, columns=columns)
