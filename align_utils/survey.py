"""Ask a model the survey: label probabilities over the options, in several option orders, by language and persona."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from align_utils import debias, readouts
from align_utils.adapters import find_adapter
from align_utils.artifacts import find_step, hash_file, hash_settings, make_step, save_frame
from align_utils.config import Config
from align_utils.decoder import continue_rows
from align_utils.generation import find_stop_tokens, load_states
from align_utils.models import hash_base, use_adapter
from align_utils.presentations import Question, list_questions, name_groups, pick_sample, tabulate_answers
from align_utils.stages import list_trained

# Bumped when this module's results change for the same settings.
VERSION = 3

COLUMNS = [
    *debias.ANSWERER, "seed", "readout", "question", "order", "place", "code", "probability", "option_mass", "refusal_mass",
    "place_prior",
]  # fmt: skip
# The step that asks the items without an order, by label.
NOMINAL = "label_nominal"
GENERATED = [*debias.ANSWERER, "seed", "question", "text", "place", "code"]


def score_labels(model, tokenizer, asked: Sequence[Question], *, batch_tokens: int, label: str = "") -> list[np.ndarray]:
    """Probability of each label of each question (places 1..n), not normalised: their sum is the option mass.

    The presentations of one item in one language go through the model together, `batch_tokens` tokens at a time.

    Returns
    -------
    list of ndarray, shape (n_options,)
    """
    return readouts.score_labels(
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
    rows = readouts.read_texts(
        model, tokenizer, [(q.open_prompt, [q.forms[0] + text for text in cfg.languages[q.language].refusals]) for q in listed.values()],
        list(listed), batch_tokens=cfg.profile.survey.batch_tokens, label=f"{label} refusals",
    )  # fmt: skip
    found = {key: float(readouts.exclude_longer(row).sum()) for key, row in zip(listed, rows, strict=True)}
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
    rows = readouts.read_texts(model, tokenizer, given, name_groups(asked), **settings)
    # The same texts after the lead alone, each once: what the fourth reading takes off.
    leads = {name: language.text_lead or language.answer_lead for name, language in cfg.languages.items()}
    pairs = dict.fromkeys((leads[q.language], text) for q, row in zip(asked, texts, strict=True) for text in row)
    every = {lead: [text for other, text in pairs if other == lead] for lead in leads.values()}
    bare = readouts.read_texts(model, tokenizer, list(every.items()), list(every), **settings)
    unasked = {
        (lead, text): logs.sum()
        for (lead, listed), row in zip(every.items(), bare, strict=True)
        for text, (_, logs) in zip(listed, row, strict=True)
    }
    shares = [
        readouts.share_texts(row, q.options, [unasked[leads[q.language], text] for text in listed])
        for row, q, listed in zip(rows, asked, texts, strict=True)
    ]
    masses = [readouts.exclude_longer(row).sum() for row in rows]
    return pd.concat(
        [
            tabulate_answers(asked, [share[name] for share in shares], masses).assign(readout=name)
            for name in readouts.TEXT_READINGS
        ],
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
        place = readouts.parse_answer(text, q.options, cfg.languages[q.language].normalise) or 0
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
        debias.estimate_prior(part).assign(readout=readout, seed=seed, kind=kind)
        for (readout, seed, kind), part in frame.groupby(["readout", "seed", "kind"], sort=False)
    ]
    by = ["readout", "seed", "kind", *debias.ANSWERER, "options", "place"]
    priors = pd.concat(priors).rename(columns={"prior": "place_prior"})[[*by, "place_prior"]]
    return frame.merge(priors, on=by, how="left")[COLUMNS]


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
    for cell in tqdm(open_cells, desc="answerers", unit="read-out"):
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
        "version": VERSION, "base": hash_base(cfg.models[name], seed=cfg.profile.seed), "state": list(state), "readout": readout,
        "adapter": hash_file(weights) if weights.is_file() else None,
        "questions": hash_settings({"asked": used.get(readout, [[q.open_prompt, q.order, q.codes, q.forms, q.options] for q in asked])}),
    }  # fmt: skip
    if readout in {"label", NOMINAL}:
        refusals = {language.name: language.refusals for language in cfg.languages.values()}
        return settings | {"refusals": refusals, "sample_items": cfg.profile.survey.sample_items}
    if readout == "generated":
        return settings | cfg.profile.survey.model_dump(include={"sample_items", "generated_tokens"})
    return settings
