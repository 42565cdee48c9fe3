"""What people answer: distributions by country, their files, and their intervals."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.store.ledger import note_read
from align_utils.store.textfiles import DataError, find_file, parse_numbers, read_table
from align_utils.survey.distances import FEWEST, choose_size, measure_rows, rank_tension
from align_utils.survey.items import fold_label, read_label, read_options
from align_utils.survey.microdata import Respondents, count_answers, read_respondents

OPINION_COLUMNS = ["question", "selections", "options", "source"]
# A country's respondents may stand under its name alone or marked as the current national sample; other samples are not the country's.
NATIONAL = " (Current national sample)"


def read_opinions(path: Path, countries: Mapping[str, str], options: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read the World Values Survey's rows of `global_opinions.csv`.

    Parameters
    ----------
    path : Path
    countries : dict
        Code of the survey: the country's name.
    options : DataFrame
        Official wording (`question, text, labels`) from `wording.read_options`: it tells which row is which item.

    Returns
    -------
    shares : DataFrame
        `question, country, answer` (code), `share` (of the options that are answers; the others, such as "Don't know", left out).
    refused : dict
        Question: why its row cannot be used.

    Raises
    ------
    DataError
        Not that file, a cell that is no list or dictionary, or no row that matches the official wording.

    Source
    ------
    Durmus et al. (2023), Anthropic/llm_global_opinions, CC BY-NC-SA 4.0. It holds no weights and no n.
    """
    try:
        frame = pd.read_csv(note_read(path), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError, EOFError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}; fetch the file again") from error
    missing = [column for column in OPINION_COLUMNS if column not in frame]
    if missing:
        raise DataError(f"{path}, line 1: column {', '.join(missing)} not found; the header holds: {', '.join(frame.columns)}")
    frame = frame[frame["source"] == "WVS"]
    rows = {text: part for text, part in frame.groupby(frame["question"].map(fold_label), sort=False) if text}
    shares, refused, matched = [], {}, 0
    for item in options.itertuples():
        found = rows.get(fold_label(item.text))
        matched += found is not None
        if found is None or len(found) > 1:
            refused[item.question] = f"its wording stands in {0 if found is None else len(found)} rows of {path.name}"
            continue
        row = found.iloc[0]
        codes, reason = _read_codes(path, row, item.labels)
        given = _parse(path, row, "selections") if not reason else {}
        for country, name in countries.items() if not reason else []:
            listed = given.get(name, given.get(name + NATIONAL))
            part, reason = _share_out(listed, codes, name)
            if reason:
                break
            shares.append(part.assign(question=item.question, country=country))
        if reason:
            refused[item.question] = reason
    if not matched:
        raise DataError(
            f"{path}: none of its {len(frame)} rows from the WVS has the wording of an item. It has no question numbers: put the official "
            f"English wording beside it as {path.parent / 'questions.csv'} (data/README.md)"
        )
    result = pd.concat([pd.DataFrame(columns=["answer", "share", "question", "country"]), *shares], ignore_index=True)
    result = result[~result["question"].isin(list(refused))]
    return result[["question", "country", "answer", "share"]].astype({"answer": int, "share": float}), refused


def _parse(path: Path, row: pd.Series, column: str):
    text = row[column]
    if column == "selections":  # printed as defaultdict(<class 'list'>, {...})
        text = text[text.find("{") : text.rfind("}") + 1]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise DataError(
            f"{path}, row {row.name + 1} below the header, column '{column}': no Python literal: {row[column][:60]!r}; fetch the file again"
        ) from error


def _read_codes(path: Path, row: pd.Series, labels: dict) -> tuple[list, str]:
    options = _parse(path, row, "options")
    codes = [read_label(str(option), labels) for option in options]
    if None in codes:
        return [], f"option '{options[codes.index(None)]}' is not in questions.csv"
    answers = [code for code in codes if code >= 0]
    if len(set(answers)) < max(len(answers), 2):
        return [], f"its {len(answers)} options are not two or more different answers"
    return codes, ""


def _share_out(listed, codes: list, name: str) -> tuple[pd.DataFrame, str]:
    if not isinstance(listed, list) or len(listed) != len(codes):
        return pd.DataFrame(), f"{name} has {len(listed) if isinstance(listed, list) else 'no'} shares for {len(codes)} options"
    part = pd.DataFrame({"answer": codes, "share": pd.to_numeric(pd.Series(listed), errors="coerce")})
    if not part["share"].between(0, 1).all() or not 0.97 <= round(part["share"].sum(), 6) <= 1.03:
        return pd.DataFrame(), f"shares of {name} sum to {part['share'].sum():.2f}"
    part = part[part["answer"] >= 0]
    if not part["share"].sum() > 0:
        return pd.DataFrame(), f"nobody in {name} gave an answer"
    return part.assign(share=part["share"] / part["share"].sum()), ""


# Shares rounded to 0.01 may miss 1 by their rounding; more means that options are missing (a copy that was damaged on the way).
SUM_LOW, SUM_HIGH = 0.97, 1.03
CROSS_NATIONAL = ["*WVS_Cross-National_Wave_7*.csv"]
AGGREGATED = ["distributions*.csv"]
OPINIONS = ["global_opinions*.csv"]
OTHERS = ["*Joint*.csv", "*Trend*.csv", "*TimeSeries*.csv", "*Time_Series*.csv", "*WV[1-6]*.csv", "*Wave_[1-6]*.csv"]


def load_distributions(cfg: Config, items: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Human answer distributions of the run's countries for the items that are sound in all of them.

    Parameters
    ----------
    items : DataFrame
        From `choose_items`; their `recode` and `drop` are applied to the file's codes.

    Returns
    -------
    shares : DataFrame
        `question, culture, code, share, n, n_effective`; per question and culture the codes of the item in scale order, shares sum
        to 1. `n_effective` is Kish's, from the weights; NaN where the file has shares alone.
    rejected : DataFrame
        `question, reason` of items that cannot be used: not in the file, or damaged in it. Repairs of the file as a whole stand
        there too, counted, as the question '(file)'.

    Raises
    ------
    DataError
        No survey file, a joint or trend file, no usable item, or what `microdata.read_respondents` and `opinions.read_opinions` raise.
    """
    countries = {culture.survey_country: name for name, culture in cfg.cultures.items()}
    paths, kind = _find_source(cfg)
    refused: dict[str, str] = {}
    notes: list[str] = []
    if kind == "respondents":
        people = load_respondents(cfg, items)
        shares, refused, notes = count_answers(people, items), people.refused, people.repairs
    elif kind == "opinions":
        options = _read_options(cfg)
        shares, refused = read_opinions(paths[0], _name_countries(cfg), options[options["question"].isin(items["question"])])
    else:
        shares, notes = _read_aggregated(paths[0])
    shares = shares.reindex(columns=["question", "country", "answer", "share", "n", "n_effective"])
    rows: dict = {}
    for row in shares[shares["country"].isin(list(countries))].itertuples(index=False):
        rows.setdefault(row.question, {}).setdefault(row.country, []).append(row)
    kept, rejected = [], [{"question": "(file)", "reason": note} for note in notes]
    for item in items.itertuples():
        found = rows.get(item.question)
        reason = refused.get(item.question) or (
            _judge_item(found, item, list(countries)) if found else f"not in {paths[0].name}"
        )
        if reason:
            rejected.append({"question": item.question, "reason": reason})
            continue
        for country, name in sorted(countries.items()):
            mass = dict.fromkeys(item.codes, 0.0)
            for row in found[country]:
                code = item.recode.get(row.answer, row.answer)
                mass |= {code: mass[code] + row.share} if code in mass else {}
            total, first = sum(mass.values()), found[country][0]
            kept += [(item.question, name, code, mass[code] / total, first.n, first.n_effective) for code in item.codes]
    if not kept:
        # The first that is in the file: that others are not tells little.
        told = sorted(
            (row for row in rejected if row["question"] != "(file)"), key=lambda row: row["reason"].startswith("not in ")
        )
        first = f" (of {told[0]['question']}: {told[0]['reason']})" if told else ""
        raise DataError(f"{paths[0]}: none of our {len(items)} items is usable in all of {', '.join(countries)}{first}")
    columns = ["question", "culture", "code", "share", "n", "n_effective"]
    return pd.DataFrame(kept, columns=columns), pd.DataFrame(rejected, columns=["question", "reason"])


def load_respondents(cfg: Config, items: pd.DataFrame, *, everyone: bool = False) -> Respondents | None:
    """The people behind the shares, for what needs them (intervals, half-samples); None where the file has shares alone.

    Parameters
    ----------
    items : DataFrame
        From `choose_items`: the questions read. Errors as in `load_distributions`.
    everyone : bool, default False
        All countries of the cross-national file, not the run's alone; None where there is no such file.
    """
    paths, kind = _find_source(cfg)
    if kind != "respondents" or (everyone and find_file(cfg.data_dir / "wvs", CROSS_NATIONAL) is None):
        return None
    options = _read_options(cfg)
    labels = dict(zip(options["question"], options["labels"], strict=True))
    return read_respondents(paths, {} if everyone else _name_countries(cfg), items["question"].tolist(), labels)


def _find_source(cfg: Config) -> tuple[list[Path], str]:
    """Files of the human side in order of preference, and what they hold: respondents, shares or opinions."""
    folder = cfg.data_dir / "wvs"
    if path := find_file(folder, CROSS_NATIONAL):
        return [path], "respondents"
    names = [name.replace(" ", "_") for name in _name_countries(cfg).values()]
    if any(paths := [find_file(folder, [f"*Wave_7_{name}_*.csv"]) for name in names]):
        lacking = [name for name, path in zip(names, paths, strict=True) if path is None]
        if lacking:
            raise DataError(
                f"{folder}: {', '.join(p.name for p in paths if p)} but no *Wave_7_{lacking[0]}_*.csv: every country, please"
            )
        return paths, "respondents"
    for kind, patterns in {"shares": AGGREGATED, "opinions": OPINIONS}.items():
        if path := find_file(folder, patterns):
            return [path], kind
    known = [*CROSS_NATIONAL, "*Wave_7_<Country>_*.csv", *AGGREGATED, *OPINIONS]
    if path := find_file(folder, OTHERS):
        raise DataError(
            f"{path}: a joint EVS/WVS, trend or other wave's file: its question codes are not those of wave 7 and it cannot be used; "
            f"expected {', '.join(known)}"
        )
    raise DataError(
        f"{folder}: no survey file; expected {', '.join(known)}. Source: worldvaluessurvey.org, wave 7 (free registration); set "
        "ALIGN_DATA=<folder>"
    )


def _name_countries(cfg: Config) -> dict[str, str]:
    return {culture.survey_country: culture.survey_name or culture.label for culture in cfg.cultures.values()}


def _read_options(cfg: Config) -> pd.DataFrame:
    path = cfg.data_dir / "wvs" / "questions.csv"
    return read_options(path) if path.is_file() else pd.DataFrame(columns=["question", "text", "labels"])


def _judge_item(found: dict, item: tuple, countries: list[str]) -> str:
    """Reason to reject an item, or an empty string: every country's shares near 1 and only codes that the scale knows."""
    for country in countries:
        rows = found.get(country, [])
        if not rows:
            return f"no answers from {country}"
        total = round(sum(row.share for row in rows), 6)  # shares have two decimals: 0.97 must not fail by a float
        if not SUM_LOW <= total <= SUM_HIGH:
            return f"shares of {country} sum to {total:.2f}"
        seen = {item.recode.get(row.answer, row.answer) for row in rows} - set(item.drop)
        expected = set(item.codes)
        if seen - expected:
            return f"{country} has codes {sorted(seen - expected)} outside the scale"
        if not sum(row.share for row in rows if row.answer not in item.drop) > 0:
            return f"nobody in {country} gave an answer on the scale"
        if len({str(row.n) for row in rows}) > 1:
            return f"{country} has different n in the rows of one question"
        if pd.isna(rows[0].n) and len(seen) < len(expected):
            return f"{country} lacks codes {sorted(expected - seen)}"
    return ""


def _read_aggregated(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The rows of answers on a scale, and what was repaired: codes below 0 (no answer) are left out of the shares."""
    frame = read_table(path, ["question", "country", "answer", "share"], optional=["n"])
    frame["share"] = parse_numbers(frame, "share", path, low=0, high=1)
    answers = parse_numbers(frame, "answer", path, low=-9, high=99)
    if len(parts := answers.index[answers % 1 != 0]):
        raise DataError(
            f"{path}, line {parts[0]}, column 'answer': expected a whole code, found {frame.loc[parts[0], 'answer']!r}"
        )
    frame["answer"] = answers.astype(int)
    frame["n"] = parse_numbers(frame, "n", path, low=1, high=1e9) if "n" in frame else float("nan")
    twice = frame.index[frame.duplicated(["question", "country", "answer"])]
    if len(twice):
        raise DataError(f"{path}, line {twice[0]}: this question, country and answer stand twice")
    missing = frame["answer"] < 0
    if not missing.any():
        return frame, []
    gone = frame["share"].where(missing, 0.0).groupby([frame["question"], frame["country"]]).transform("sum")
    frame["share"] /= (1 - gone).where(gone < 1, 1.0)
    kept = frame[~missing]
    return kept, [
        f"{missing.sum()} rows of codes below 0 (no answer) left out, the other shares of their questions made to match"
    ]


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
    size = choose_size(human["question"].nunique(), cfg.profile.survey.high_tension)
    ranked = rank_tension(human, first, second, size=size)["question"]
    drawn = draw_shares(cfg, items, human, people, draws=draws)
    tension = np.column_stack([measure_rows(drawn[one, first], drawn[one, second])[0] for one in ranked])
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
        f"{FEWEST} where these are no more than half); {kept.mean():.1f} of them stay on average when both countries' answers are drawn anew {len(kept)} times "
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
