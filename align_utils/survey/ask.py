"""Every model asked every item: option probabilities by label, by text, and in generated words."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.stages import list_trained
from align_utils.models.adapters import find_adapter, load_states
from align_utils.models.decode import continue_rows, find_stop_tokens
from align_utils.models.load import hash_base, use_adapter
from align_utils.models.logprobs import Tokens, score_tails
from align_utils.store.steps import find_step, hash_file, hash_settings, make_step, progress, save_frame
from align_utils.survey.answers import ANSWERER, estimate_prior
from align_utils.survey.questions import Question, list_questions, name_groups, pick_sample, tabulate_answers

# Bumped when this module's results change for the same settings.
SURVEY_VERSION = 3
ANSWER_COLUMNS = [
    *ANSWERER, "seed", "readout", "question", "order", "place", "code", "probability", "option_mass", "refusal_mass",
    "place_prior",
]  # fmt: skip
# The step that asks the items without an order, by label.
NOMINAL = "label_nominal"
GENERATED = [*ANSWERER, "seed", "question", "text", "place", "code"]


def score_labels(model, tokenizer, asked: Sequence[Question], *, batch_tokens: int, label: str = "") -> list[np.ndarray]:
    """Probability of each label of each question (places 1..n), not normalised: their sum is the option mass.

    The presentations of one item in one language go through the model together, `batch_tokens` tokens at a time.

    Returns
    -------
    list of ndarray, shape (n_options,)
    """
    return join_labels(
        model, tokenizer, [q.prompt for q in asked], [len(q.order) for q in asked], [q.forms for q in asked], name_groups(asked),
        batch_tokens=batch_tokens, label=label,
    )  # fmt: skip


def score_refusals(cfg: Config, model, tokenizer, asked: Sequence[Question], *, label: str = "") -> dict[tuple, float]:
    """Probability of the language's refusals ('I don't know') after the open lead, in the first order of a sample of the items.

    Returns
    -------
    dict
        (language, persona, question) to a probability; NaN outside the sample and in a language that lists no refusals.
    """
    sample = [q for q in pick_sample(cfg, asked) if cfg.languages[q.language].refusals]
    listed = dict(zip(name_groups(sample), sample, strict=True))
    rows = read_texts(
        model, tokenizer, [(q.open_prompt, [q.forms[0] + text for text in cfg.languages[q.language].refusals]) for q in listed.values()],
        list(listed), batch_tokens=cfg.profile.survey.batch_tokens, label=f"{label} refusals",
    )  # fmt: skip
    found = {key: float(exclude_longer(row).sum()) for key, row in zip(listed, rows, strict=True)}
    return {key: found.get(key, np.nan) for key in name_groups(asked)}


def score_options(cfg: Config, model, tokenizer, asked: Sequence[Question], *, label: str = "") -> pd.DataFrame:
    """Shares of the options by the probability of their whole text, one read-out a reading (`readouts.TEXT_READINGS`).

    Questions with options that are bare numerals have no texts and are left out.
    """
    asked, settings = (
        [q for q in asked if q.worded],
        {"batch_tokens": cfg.profile.survey.batch_tokens, "label": f"{label} text"},
    )
    texts = [[q.forms[0] + option for option in q.options] for q in asked]
    given = list(zip([q.open_prompt for q in asked], texts, strict=True))
    rows = read_texts(model, tokenizer, given, name_groups(asked), **settings)
    # The same texts after the lead alone, each once: what the fourth reading takes off.
    leads = {name: language.text_lead or language.answer_lead for name, language in cfg.languages.items()}
    pairs = dict.fromkeys((leads[q.language], text) for q, row in zip(asked, texts, strict=True) for text in row)
    every = {lead: [text for other, text in pairs if other == lead] for lead in leads.values()}
    bare = read_texts(model, tokenizer, list(every.items()), list(every), **settings)
    unasked = {
        (lead, text): logs.sum()
        for (lead, listed), row in zip(every.items(), bare, strict=True)
        for text, (_, logs) in zip(listed, row, strict=True)
    }
    shares = [
        share_texts(row, q.options, [unasked[leads[q.language], text] for text in listed])
        for row, q, listed in zip(rows, asked, texts, strict=True)
    ]
    masses = [exclude_longer(row).sum() for row in rows]
    return pd.concat(
        [tabulate_answers(asked, [share[name] for share in shares], masses).assign(readout=name) for name in TEXT_READINGS],
        ignore_index=True,
    )


def write_answers(cfg: Config, model, tokenizer, asked: Sequence[Question]) -> pd.DataFrame:
    """Greedy answers in the model's own words to a sample of the items in their first order, parsed into options.

    Returns
    -------
    DataFrame
        `language, persona, question, text, place` (1..k, 0 where the text names no option), `code` (missing there).
    """
    settings, chosen, stops = cfg.profile.survey, pick_sample(cfg, asked), find_stop_tokens(tokenizer)

    def ends(_: int, tokens: list[int]) -> bool:
        # Empty lines before the answer are not the answer.
        last = tokens[-1]
        return last == tokenizer.eos_token_id or (last in stops and bool(tokenizer.decode(tokens).strip()))

    new = continue_rows(
        model, tokenizer.pad_token_id, [tokenizer(q.open_prompt)["input_ids"] for q in chosen],
        pick=lambda scores, *_: scores.argmax(dim=-1), ends=ends, max_new_tokens=settings.generated_tokens,
    )  # fmt: skip
    rows = []
    for q, text in zip(chosen, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
        place = parse_answer(text, q.options, cfg.languages[q.language].normalise) or 0
        rows.append({
            "language": q.language, "persona": q.persona, "question": q.question, "text": text, "place": place,
            "code": q.codes[q.order[place - 1]] if place else pd.NA,
        })  # fmt: skip
    return pd.DataFrame(rows).astype({"code": "Int64"})


def ask_survey(cfg: Config, name: str, items: pd.DataFrame) -> list[Path]:
    """Ask the base model and every adapter of the run, of every seed, all presentations of the items, by every read-out of the profile.

    Returns
    -------
    list of Path
        `runs/<profile>/survey/<model>.parquet`, one row an answer option: `model, adapter` (culture of the norms, or 'none'),
        `stage, language, persona, seed` (of the training; the untuned model has the profile's), `readout` ('label' or one of
        `readouts.TEXT_READINGS`), `question, order` (index), `place` (1..n), `code, probability` (share of the option mass),
        `option_mass, refusal_mass` (of the question's first order; with the label alone), `place_prior` (`debias.estimate_prior`
        over all items of the kind). Items without an order, which the map alone uses, are asked by label, in steps of their own.
        With the read-out `generated` also `<model>_generated.parquet` (`write_answers`).
    """
    asked = _list_steps(cfg, items)
    folders: dict[tuple, Path] = {}
    for seed in cfg.seeds:
        folders |= _ask_adapters(cfg, name, asked, seed)

    def collect(wanted: list[str]) -> pd.DataFrame:
        frames = [
            pd.read_parquet(folder / "answers.parquet").assign(adapter=state[0], stage=state[1], seed=seed)
            for (state, readout, seed), folder in folders.items()
            if readout in wanted
        ]
        return pd.concat(frames, ignore_index=True).assign(model=name)

    frame = add_priors(collect(["label", "text", NOMINAL]), items)
    paths = [save_frame(frame, cfg.runs / "survey" / f"{name}.parquet")]
    if "generated" in cfg.profile.survey.readouts:
        path = cfg.runs / "survey" / f"{name}_generated.parquet"
        paths.append(save_frame(collect(["generated"])[GENERATED], path))
    return paths


def add_priors(answers: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Answers with the answerer's `place_prior` (`debias.estimate_prior`) beside every place, in the order of COLUMNS.

    Items of each `kind` give their own prior, so that the map's items do not change what is said of the others.
    """
    frame = answers.assign(
        options=answers.groupby("question")["place"].transform("max"),
        kind=answers["question"].map(dict(zip(items["question"], items["kind"], strict=True))),
    )
    priors = [
        estimate_prior(part).assign(readout=readout, seed=seed, kind=kind)
        for (readout, seed, kind), part in frame.groupby(["readout", "seed", "kind"], sort=False)
    ]
    by = ["readout", "seed", "kind", *ANSWERER, "options", "place"]
    priors = pd.concat(priors).rename(columns={"prior": "place_prior"})[[*by, "place_prior"]]
    return frame.merge(priors, on=by, how="left")[ANSWER_COLUMNS]


def _list_steps(cfg: Config, items: pd.DataFrame) -> dict[str, list[Question]]:
    """The presentations of every step an answerer takes: a step a read-out, so that one more read-out leaves the others as they are."""
    ordered = items["kind"] == "ordered"
    steps = dict.fromkeys(cfg.profile.survey.readouts, list_questions(cfg, items[ordered]))
    # Apart, so that what is stored of the ordered items holds whether the human file has the map's items or not.
    return steps if ordered.all() else steps | {NOMINAL: list_questions(cfg, items[~ordered])}


def _ask_adapters(cfg: Config, name: str, asked: dict[str, list[Question]], seed: int) -> dict[tuple, Path]:
    """The steps of one seed's adapters, with the profile's own seed also of the untuned model: (state, readout, seed) to folder."""
    own = seed == cfg.profile.seed
    untuned = [("none", "zero_shot")] if own else []
    states = [*untuned, *[(culture, stage) for culture in cfg.cultures for stage in list_trained(cfg)]]
    cells = [(state, step) for state in states for step in asked]
    settings = {cell: _describe(cfg, name, *cell, asked[cell[1]], seed) for cell in cells}
    more = [] if own else [f"seed-{seed}"]
    folders = {cell: cfg.runs / "steps" / "survey" / "_".join([name, *cell[0], cell[1], *more]) for cell in cells}
    open_cells = [cell for cell in cells if not find_step(folders[cell], settings[cell])]
    if open_cells:
        model, tokenizer, adapters = load_states(cfg, name, seed)
    for cell in progress(open_cells, desc="answerers", unit="read-out"):
        remedy = "lower survey.batch_tokens in the profile"
        with make_step(folders[cell], settings[cell], remedy=remedy) as work, use_adapter(model, adapters.get(cell[0])):
            save_frame(_ask(cfg, model, tokenizer, asked[cell[1]], cell[1], label=" ".join(cell[0])), work / "answers.parquet")
    return {(*cell, seed): folder for cell, folder in folders.items()}


def _ask(cfg: Config, model, tokenizer, asked: Sequence[Question], readout: str, *, label: str) -> pd.DataFrame:
    if readout == "generated":
        return write_answers(cfg, model, tokenizer, asked)
    if readout == "text":
        return score_options(cfg, model, tokenizer, asked, label=label).assign(refusal_mass=np.nan)
    scores = score_labels(model, tokenizer, asked, batch_tokens=cfg.profile.survey.batch_tokens, label=label)
    refusals = score_refusals(cfg, model, tokenizer, asked, label=label)
    frame = tabulate_answers(asked, scores, [score.sum() for score in scores]).assign(readout="label")
    keys = zip(frame["language"], frame["persona"], frame["question"], strict=True)
    return frame.assign(refusal_mass=[refusals[key] for key in keys])


def _describe(cfg: Config, name: str, state: tuple[str, str], readout: str, asked: Sequence[Question], seed: int) -> dict:
    # The weights tell the seeds apart; the seed itself would change the keys of what was stored before there were several.
    weights = find_adapter(cfg, name, *state, seed) / "adapter_model.safetensors"
    labelled = [[q.prompt, q.order, q.codes, q.forms, q.open_prompt] for q in asked]
    used = {"label": labelled, NOMINAL: labelled}
    settings = {
        "version": SURVEY_VERSION, "base": hash_base(cfg.models[name], seed=cfg.profile.seed), "state": list(state), "readout": readout,
        "adapter": hash_file(weights) if weights.is_file() else None,
        "questions": hash_settings({"asked": used.get(readout, [[q.open_prompt, q.order, q.codes, q.forms, q.options] for q in asked])}),
    }  # fmt: skip
    if readout in {"label", NOMINAL}:
        refusals = {language.name: language.refusals for language in cfg.languages.values()}
        return settings | {"refusals": refusals, "sample_items": cfg.profile.survey.sample_items}
    if readout == "generated":
        return settings | cfg.profile.survey.model_dump(include={"sample_items", "generated_tokens"})
    return settings


# Readings of the option texts' probability: the logarithms summed; divided by the tokens; by the characters; less the logarithm
# that the same text has after the bare lead, without a question (pointwise mutual information).
TEXT_READINGS = ("text_sum", "text_tokens", "text_characters", "text_pmi")


def split_texts(tokenizer, prompt: str, texts: Sequence[str]) -> tuple[Tokens, list[Tokens]]:
    """Token ids of what all texts go on from, and of each text from there.

    Prompt and text are tokenised as one string, since a tokeniser may join the end of one with the beginning of the other; what
    all have in common with the prompt is the context. Where something is joined, the context ends before it.

    Examples
    --------
    >>> split_texts(lambda text: {"input_ids": list(map(ord, text))}, "A", ["1", "10"])
    ((65,), [(49,), (49, 48)])
    >>> split_texts(lambda text: {"input_ids": list(map(ord, text.replace(":1", "!")))}, "A:", ["1", "2"])  # ':1' is one token
    ((65,), [(33,), (58, 50)])
    """
    joined = [tuple(tokenizer(prompt + text)["input_ids"]) for text in texts]
    rows = [tuple(tokenizer(prompt)["input_ids"]), *joined]
    # A text keeps a token of its own and a context is never empty.
    limit = min(len(rows[0]), *(len(row) - 1 for row in joined))
    common = next((place for place in range(limit) if len({row[place] for row in rows}) > 1), limit)
    return rows[0][:common], [row[common:] for row in joined]


def read_texts(
    model,
    tokenizer,
    asked: Sequence[tuple[str, Sequence[str]]],
    keys: Sequence[Hashable],
    *,
    batch_tokens: int,
    label: str = "",
) -> list[list[tuple[Tokens, np.ndarray]]]:
    """Tokens and their log-probabilities of each text after its prompt; prompts of one key go through the model together.

    Parameters
    ----------
    asked : sequence of (prompt, texts)
    keys : sequence
        One a prompt, alike where prompts begin alike (an item in one language).

    Returns
    -------
    list of list of (tuple of int, ndarray)
    """
    plans = [split_texts(tokenizer, prompt, texts) for prompt, texts in asked]
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    results: list[list[tuple[Tokens, np.ndarray]]] = [[] for _ in asked]
    for group in progress(groups.values(), desc=label or "survey", unit="item", leave=False):
        scores = score_tails(model, tokenizer.pad_token_id, [plans[i] for i in group], batch_tokens=batch_tokens)
        for index, logs in zip(group, scores, strict=True):
            results[index] = list(zip(plans[index][1], logs, strict=True))
    return results


def exclude_longer(read: Sequence[tuple[Tokens, np.ndarray]]) -> np.ndarray:
    """Probability of each text and of none that goes on from it: of '1' without what goes on to '10'.

    Examples
    --------
    >>> exclude_longer([((1,), np.log([0.5])), ((1, 0), np.log([0.5, 0.2])), ((2,), np.log([0.3]))]).round(3).tolist()
    [0.4, 0.1, 0.3]
    """
    whole = [float(np.exp(logs.sum())) for _, logs in read]
    tails = [tail for tail, _ in read]

    def goes_on(longer: Tokens, tail: Tokens) -> bool:
        return len(longer) > len(tail) and longer[: len(tail)] == tail

    result = []
    for tail, probability in zip(tails, whole, strict=True):
        after = [index for index, other in enumerate(tails) if goes_on(other, tail)]
        # Of 'a', 'ab' and 'abc' only 'ab' is taken from 'a': 'abc' is part of it.
        nearest = [i for i in after if not any(goes_on(tails[i], tails[j]) for j in after)]
        result.append(max(0.0, probability - sum(whole[i] for i in nearest)))
    return np.array(result)


def join_labels(
    model, tokenizer, prompts: Sequence[str], sizes: Sequence[int], forms: Sequence[Sequence[str]], keys: Sequence[Hashable], *,
    batch_tokens: int, label: str = "",
) -> list[np.ndarray]:  # fmt: skip
    """Probability that the model goes on from a prompt with each label 1..n, in any of the written forms.

    The forms ('' and ' ' before the label) are events that exclude each other after the same prompt, so they are added up.

    Parameters
    ----------
    sizes, forms, keys : sequences
        Number of options, what may stand before the label, and the group, one a prompt.

    Returns
    -------
    list of ndarray, shape (n,)
        Not normalised: the sum is the option mass, in [0, 1].
    """
    asked = [
        (prompt, [f"{form}{place}" for form in before for place in range(1, size + 1)])
        for prompt, size, before in zip(prompts, sizes, forms, strict=True)
    ]
    read = read_texts(model, tokenizer, asked, keys, batch_tokens=batch_tokens, label=label)
    return [exclude_longer(row).reshape(-1, size).sum(axis=0) for row, size in zip(read, sizes, strict=True)]


def share_texts(
    read: Sequence[tuple[Tokens, np.ndarray]], texts: Sequence[str], bare: Sequence[float]
) -> dict[str, np.ndarray]:
    """The options' shares by every reading of TEXT_READINGS: a softmax over the options of the reading's logarithms.

    Parameters
    ----------
    read : sequence of (tokens, log-probabilities)
        Of each option text.
    texts : sequence of str
        Without what stands before them; their characters are counted.
    bare : sequence of float
        Log-probability of each text after the bare lead.
    """
    total = np.array([logs.sum() for _, logs in read])
    readings = {
        "text_sum": total, "text_tokens": total / [len(tail) for tail, _ in read],
        "text_characters": total / [len(text) for text in texts], "text_pmi": total - np.array(bare),
    }  # fmt: skip
    weights = {name: np.exp(values - values.max()) for name, values in readings.items()}
    return {name: weights[name] / weights[name].sum() for name in TEXT_READINGS}


def parse_answer(text: str, options: Sequence[str], normalise: Callable[[str], str]) -> int | None:
    """Place (1..n) of the option that a generated answer names, by its label or else by its text; None where it names none.

    The first line that is not empty counts. A label is a whole number at its beginning; a text stands at its beginning in the
    language's normal form, the longest that fits.

    Examples
    --------
    >>> parse_answer(" 2. Rather\\nAnswer", ["Very", "Rather"], str.casefold)
    2
    >>> parse_answer("very good indeed", ["Very", "Very good"], str.casefold)
    2
    >>> parse_answer("12", ["Very", "Rather"], str.casefold) is None
    True
    """
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    number = re.match(r"\W*(\d+)", line)
    if number:
        place = int(number[1])
        return place if 1 <= place <= len(options) else None
    line = normalise(line)
    fits = [
        place for place, option in enumerate(options, start=1) if re.match(rf"{re.escape(normalise(option))}(?![a-z])", line)
    ]
    return max(fits, key=lambda place: len(options[place - 1]), default=None)
