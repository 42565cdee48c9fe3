"""Every model asked every item: option probabilities by label, by text, and in generated words."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.settings import Language
from align_utils.config.stages import PERSONA, SURVEY_TAUGHT, TAUGHT_HALVES, list_asked, list_seeds
from align_utils.models.adapters import Plan, complete_steps, describe_step, find_adapter
from align_utils.models.decode import continue_rows, find_stop_tokens
from align_utils.models.logprobs import Tokens, exclude_longer, read_texts
from align_utils.store.steps import hash_settings, read_frame, save_frame
from align_utils.survey.answers import (
    ANSWERER,
    ANSWERS,
    find_readings,
    load_readings,
    name_reading,
    tabulate_answers,
)
from align_utils.survey.human import Human, read_human, store_human
from align_utils.survey.items import Question, choose_items, list_questions, pick_sample
from align_utils.survey.servers import ask_baselines
from align_utils.survey.slopes import compare_readings

# Bumped when this module's results change for the same settings.
SURVEY_VERSION = 3
# The step that asks the items without an order, by label.
NOMINAL = "label_nominal"
# Steps that ask somebody by the chosen reading alone: what one read-out answers of it.
BY_CHOICE = "chosen_"
GENERATED = [*ANSWERER, "seed", "question", "text", "place", "code"]
# The model without an adapter, as (culture, stage).
BARE = ("none", "zero_shot")
# Beside a taught adapter: the questions of its half.
TAUGHT = "questions.csv"
# Readings of the option texts' probability: the logarithms summed; divided by the tokens; by the characters; less the logarithm
# that the same text has after the bare lead, without a question (pointwise mutual information).
TEXT_READINGS = ("sum", "tokens", "characters", "pmi")


def choose_answered(cfg: Config) -> tuple[pd.DataFrame, Human]:
    """The profile's items that people of every culture answered (`choose_items`), with those that the map alone uses; and the people.

    The survey's files are read, unless they were; what they say is left for `load_people`.
    """
    store_human(cfg, choose_items(cfg, nominal=True))
    return load_people(cfg)


def load_people(cfg: Config) -> tuple[pd.DataFrame, Human]:
    """What `choose_answered` returned; MissingInput where it has not run."""
    items = choose_items(cfg, nominal=True)
    people = read_human(cfg, items)
    return items[items["question"].isin(set(people.shares["question"]))], people


def choose_readings(cfg: Config, items: pd.DataFrame, people: Human) -> pd.DataFrame:
    """Ask every untuned model of the run by every read-out, and choose one a language (`slopes.compare_readings`), before any adapter is asked.

    `items, people` are from `choose_answered`. Returns that table of all models with `reading`, its name in words. Adapters and positive
    controls are then asked by the chosen reading.
    """
    for model in cfg.models:
        ask_untuned(cfg, model, items, people.shares)
    table = pd.concat([load_readings(cfg, model) for model in cfg.models], ignore_index=True)
    return table.assign(reading=table["readout"].map(name_reading))


def ask_run(cfg: Config, items: pd.DataFrame, people: Human, *, numbers: bool = False) -> None:
    """Ask every model of the run, and every baseline whose server has an address, all items that people of every culture answered.

    `items, people` are from `choose_answered`. With `numbers` adapters also by number what they are else asked by words (`ask_numbers`). The
    ceiling control's adapters (`training.teach_survey`) must be there: MissingInput otherwise.
    """
    for model in cfg.models:
        ask_survey(cfg, model, items, people.shares)
        if numbers:
            ask_numbers(cfg, model, items)
    for language in cfg.languages.values():
        if lacking := [name for name in cfg.cultures if name not in language.personas]:
            print(
                f"languages/{language.name}.yaml has no persona {', '.join(lacking)}: this positive control is not asked in {language.label}."
            )
    print(*ask_baselines(cfg, items), f"{len(items)} items have sound answers from every country.", sep="\n")


def _group_questions(cfg: Config, items: pd.DataFrame) -> dict[str, list[Question]]:
    """By read-out what everybody is asked."""
    ordered = items[items["kind"] == "ordered"]
    asked = dict.fromkeys(cfg.profile.survey.readouts, list_questions(cfg, ordered))
    if "unlisted" in asked:
        asked["unlisted"] = drop_lists(asked["unlisted"])
    if len(ordered) < len(items):
        asked[NOMINAL] = list_questions(cfg, items[items["kind"] != "ordered"])
    return asked


def drop_lists(questions: Sequence[Question]) -> list[Question]:
    """The same questions without a list of options, each once: there is no order."""
    return [replace(q, open_prompt=q.bare_prompt) for q in questions if q.order == tuple(sorted(q.order))]


def plan_untuned(cfg: Config, name: str, items: pd.DataFrame) -> Plan:
    """The untuned model asked by every read-out of the profile; `name` is a model of the profile, `items` are from `choose_items`."""
    return _plan(cfg, name, {(BARE, key, cfg.profile.seed): own for key, own in _group_questions(cfg, items).items()})


def plan_tuned(cfg: Config, name: str, items: pd.DataFrame) -> Plan:
    """Everybody else asked, of every seed: in each language by the reading that is chosen for it (`ask_untuned`), and by label what has no words.

    Every answerer takes a step a read-out, so that one more read-out leaves the others as they are. Items without an order, which the map
    alone uses, are asked by label in steps of their own: what is stored of the others holds whether they are asked or not. With the
    profile's seed the positive controls are asked: the untuned model as a person from each country (stage `persona`, the country's culture
    as its adapter), and the adapters of `training.teach_survey`, each what it was not taught (stage `survey_taught`; before it is trained
    its step is there, and has no questions). Arguments as in `plan_untuned`.
    """
    asked, chosen, given = _group_questions(cfg, items), _find_chosen(cfg, name), {}
    controls = {("none", PERSONA): list_questions(cfg, items[items["kind"] == "ordered"], personas=[*cfg.cultures])}
    for culture, half in product(cfg.cultures, TAUGHT_HALVES):
        path, controls[culture, half] = find_adapter(cfg, name, culture, half) / TAUGHT, []
        if path.is_file():
            taught = set(read_frame(path, made_by="05_wvs_survey")["question"])
            controls[culture, half] = [q for q in asked["label"] if q.question not in taught]
    for seed in cfg.seeds:
        stages = [stage for stage in list_asked(cfg) if seed in list_seeds(cfg, stage)]
        adapters = {state: asked["label"] for state in product(cfg.cultures, stages)}
        given |= {(state, NOMINAL, seed): asked[NOMINAL] for state in adapters if NOMINAL in asked}
        for state, questions in (adapters | (controls if seed == cfg.profile.seed else {})).items():
            parts = _take_chosen(questions, chosen)
            given |= {(state, BY_CHOICE + key, seed): part for key, part in parts.items() if part or not questions}
    return _plan(cfg, name, given)


def plan_numbers(cfg: Config, name: str, items: pd.DataFrame) -> Plan:
    """The adapters of the profile's seed asked by label what `plan_tuned` reads by words. Arguments as in `plan_untuned`."""
    chosen = _find_chosen(cfg, name)
    own = [q for q in _group_questions(cfg, items)["label"] if q.worded and chosen[q.language] != "label"]
    states = product(cfg.cultures, list_asked(cfg)) if own else ()
    return _plan(cfg, name, {(state, "numbers", cfg.profile.seed): own for state in states})


def ask_untuned(cfg: Config, name: str, items: pd.DataFrame, human: pd.DataFrame) -> dict[tuple, pd.DataFrame]:
    """Ask one untuned model by every read-out, and store which reading is chosen: `runs/<profile>/survey/<model>_readings.csv`.

    `human` are SHARES. Returns the answers by state, read-out and seed.
    """
    frames = _complete(cfg, name, plan_untuned(cfg, name, items))
    answers = pd.concat(
        [frame for (_, key, _), frame in frames.items() if key not in ("generated", NOMINAL)], ignore_index=True
    )
    table = compare_readings(answers, human, items[items["kind"] == "ordered"], **cfg.bootstrap)
    save_frame(table, find_readings(cfg, name))
    return frames


def ask_survey(cfg: Config, name: str, items: pd.DataFrame, human: pd.DataFrame) -> list[Path]:
    """Ask the base model and every adapter of the run, of every seed, all items (`ask_untuned`, `plan_tuned`).

    Returns `runs/<profile>/survey/<model>.parquet` (ANSWERS); with the read-out `generated` also `<model>_generated.parquet`
    (`generate_answers`).
    """
    frames = ask_untuned(cfg, name, items, human) | _complete(cfg, name, plan_tuned(cfg, name, items))
    scored, written = ([frame for (_, key, _), frame in frames.items() if (key == "generated") == own] for own in (False, True))
    paths = [save_frame(_collect(scored), cfg.runs / "survey" / f"{name}.parquet")]
    if written:
        frame = pd.concat(written, ignore_index=True)[GENERATED]
        paths.append(save_frame(frame, cfg.runs / "survey" / f"{name}_generated.parquet"))
    return paths


def ask_numbers(cfg: Config, name: str, items: pd.DataFrame) -> Path:
    """Ask what `plan_numbers` holds, for an appendix: would another reading say the same?

    Arguments as in `ask_survey`, which comes first. Returns `runs/<profile>/survey/<model>_numbers.parquet` (ANSWERS).
    """
    frames = _complete(cfg, name, plan_numbers(cfg, name, items))
    return save_frame(_collect(frames.values()), cfg.runs / "survey" / f"{name}_numbers.parquet")


def _collect(frames: Collection[pd.DataFrame]) -> pd.DataFrame:
    columns = {name: str(column.dtype) for name, column in ANSWERS.columns.items()}
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*columns]).astype(columns)
    return ANSWERS.validate(frame[[*columns]])


def _find_chosen(cfg: Config, name: str) -> dict[str, str]:
    # By language the read-out of the chosen reading; the label before the untuned model was asked, for who lists the steps.
    chosen = dict.fromkeys(cfg.languages, "label")
    if find_readings(cfg, name).is_file():
        told = load_readings(cfg, name).query("chosen")
        chosen |= dict(zip(told["language"], told["readout"].str.partition("_")[0], strict=True))
    return chosen


def _take_chosen(questions: Sequence[Question], chosen: dict[str, str]) -> dict[str, list[Question]]:
    """By read-out the questions that it reads: each by its language's, or by label where it has no words."""
    parts: dict[str, list[Question]] = {readout: [] for readout in ("label", *chosen.values())}
    for q in questions:
        parts[chosen[q.language] if q.worded else "label"].append(q)
    return {readout: drop_lists(part) if readout == "unlisted" else part for readout, part in parts.items()}


def _plan(cfg: Config, name: str, asked: dict[tuple, list[Question]]) -> Plan:
    """Steps by state, read-out and seed, as `asked`."""
    survey, steps = cfg.profile.survey, {}
    for (state, readout, seed), own in asked.items():
        more = {}
        if is_label(readout):
            used = [[q.prompt, q.order, q.codes, q.forms, q.open_prompt] for q in own]
            if state == BARE:
                refusals = {language.name: language.refusals for language in cfg.languages.values()}
                more = {"refusals": refusals, "sample_items": survey.sample_items}
        else:
            used = [[q.open_prompt, q.order, q.codes, q.forms, q.options] for q in own]
            if readout == "generated":
                more = survey.model_dump(include={"sample_items", "generated_tokens"})
        folder = "_".join([name, *state, readout])
        steps[state, readout, seed] = describe_step(
            cfg, name, f"survey/{folder}", None if state[0] == "none" else state, version=SURVEY_VERSION, adapter_seed=seed,
            state=list(state), readout=readout, questions=hash_settings({"asked": used}), **more,
        )  # fmt: skip

    def make(key: tuple, model, tokenizer, work: Path) -> None:
        frame = ask_model(cfg, model, tokenizer, asked[key], key[1], refusals=key[0] == BARE)
        save_frame(frame, work / "answers.parquet")

    return Plan(steps, make, "answerers", "read-out", "lower survey.batch_tokens in the profile")


def _complete(cfg: Config, name: str, plan: Plan) -> dict[tuple, pd.DataFrame]:
    """Make the steps that are not stored yet; the answers of each, with who gave them."""
    complete_steps(cfg, name, plan)
    frames = {}
    for ((adapter, stage), readout, seed), step in plan.steps.items():
        frame = pd.read_parquet(step.folder / "answers.parquet")
        if frame.empty:  # no question has texts to read
            continue
        frame = frame.assign(model=name, adapter=adapter, seed=seed)
        frame["stage"] = SURVEY_TAUGHT if stage in TAUGHT_HALVES else stage
        if stage == PERSONA:
            frame = frame.assign(adapter=frame["persona"], persona="none")
        frames[(adapter, stage), readout, seed] = frame
    return frames


def is_label(readout: str) -> bool:
    """Whether a step's read-out is the option's number."""
    return readout in {"label", NOMINAL, BY_CHOICE + "label", "numbers"}


def ask_model(
    cfg: Config, model, tokenizer, asked: Sequence[Question], readout: str, *, refusals: bool = False
) -> pd.DataFrame:
    """The answers of whoever the model is at present, by one read-out; by label on demand with the mass of refusals."""
    if readout == "generated":
        return generate_answers(cfg, model, tokenizer, asked)
    if is_label(readout):
        frame = tabulate_answers(asked, score_labels(model, tokenizer, asked, batch_tokens=cfg.profile.survey.batch_tokens))
        refused = score_refusals(cfg, model, tokenizer, asked) if refusals else {}
        keys = zip(frame["language"], frame["persona"], frame["question"], strict=True)
        return frame.assign(readout="label", refusal_mass=[refused.get(key, np.nan) for key in keys])
    frame = score_options(cfg, model, tokenizer, asked)
    if frame.empty:
        return frame
    return frame.assign(readout=f"{readout.removeprefix(BY_CHOICE)}_" + frame["readout"], refusal_mass=np.nan)


def score_labels(model, tokenizer, asked: Sequence[Question], *, batch_tokens: int) -> list[np.ndarray]:
    """Probability of each label of each question (places 1..n), not normalised: their sum is the option mass, in [0, 1].

    The written forms (with and without a space before the label) exclude each other after the same prompt, so they are added up.
    """
    labels = [[f"{form}{place}" for form in q.forms for place in range(1, len(q.order) + 1)] for q in asked]
    given = list(zip([q.prompt for q in asked], labels, strict=True))
    read = read_texts(model, tokenizer, given, batch_tokens=batch_tokens)
    return [exclude_longer(row).reshape(-1, len(q.order)).sum(axis=0) for row, q in zip(read, asked, strict=True)]


def score_refusals(cfg: Config, model, tokenizer, asked: Sequence[Question]) -> dict[tuple, float]:
    """By question's group: probability of the language's refusals ('I don't know') after the open lead, of a sample in its first order."""
    sample = [q for q in pick_sample(asked, cfg.profile.survey.sample_items) if cfg.languages[q.language].refusals]
    given = [(q.open_prompt, [q.forms[0] + text for text in cfg.languages[q.language].refusals]) for q in sample]
    rows = read_texts(model, tokenizer, given, batch_tokens=cfg.profile.survey.batch_tokens)
    return {q.group: float(exclude_longer(row).sum()) for q, row in zip(sample, rows, strict=True)}


def score_options(cfg: Config, model, tokenizer, asked: Sequence[Question]) -> pd.DataFrame:
    """Shares of the options by the probability of their whole text, one read-out a reading of TEXT_READINGS.

    Questions with options that are bare numerals have no texts and are left out; without any other the frame is empty.
    """
    asked, batch = [q for q in asked if q.worded], cfg.profile.survey.batch_tokens
    if not asked:
        return pd.DataFrame()
    texts = [[q.forms[0] + option for option in q.options] for q in asked]
    given = list(zip([q.open_prompt for q in asked], texts, strict=True))
    rows = read_texts(model, tokenizer, given, batch_tokens=batch)
    # The same texts after the lead alone, each once: what the fourth reading takes off.
    leads = [find_lead(cfg.languages[q.language]) for q in asked]
    every: dict[str, dict[str, float]] = {}
    for lead, listed in zip(leads, texts, strict=True):
        every.setdefault(lead, {}).update(dict.fromkeys(listed, 0.0))
    bare = read_texts(model, tokenizer, [(lead, list(own)) for lead, own in every.items()], batch_tokens=batch)
    for own, row in zip(every.values(), bare, strict=True):
        own.update({text: logs.sum() for text, (_, logs) in zip(list(own), row, strict=True)})
    shares = [
        share_texts(row, q.options, [every[lead][text] for text in listed])
        for row, q, lead, listed in zip(rows, asked, leads, texts, strict=True)
    ]
    masses = [exclude_longer(row).sum() for row in rows]
    return pd.concat(
        [tabulate_answers(asked, [share[name] for share in shares], masses).assign(readout=name) for name in TEXT_READINGS],
        ignore_index=True,
    )


def find_lead(language: Language) -> str:
    """What an answer in words stands behind, without a question."""
    return language.text_lead or language.answer_lead


def generate_answers(cfg: Config, model, tokenizer, asked: Sequence[Question]) -> pd.DataFrame:
    """Greedy answers in the model's own words to a sample of the items in their first order, parsed into options.

    `language, persona, question, text, place` (1..k, 0 where the text names no option), `code` (missing there).
    """
    chosen, stops = pick_sample(asked, cfg.profile.survey.sample_items), find_stop_tokens(tokenizer)

    def ends(_: int, tokens: list[int]) -> bool:
        # Empty lines before the answer are not the answer.
        last = tokens[-1]
        return last == tokenizer.eos_token_id or (last in stops and bool(tokenizer.decode(tokens).strip()))

    new = continue_rows(
        model, tokenizer.pad_token_id, [tokenizer(q.open_prompt)["input_ids"] for q in chosen],
        pick=lambda scores, *_: scores.argmax(dim=-1), ends=ends, max_new_tokens=cfg.profile.survey.generated_tokens,
    )  # fmt: skip
    rows = []
    for q, text in zip(chosen, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
        place = parse_answer(text, q.options, cfg.languages[q.language].normalise) or 0
        rows.append((*q.group, text, place, q.codes[q.order[place - 1]] if place else pd.NA))
    columns = ["language", "persona", "question", "text", "place", "code"]
    return pd.DataFrame(rows, columns=columns).astype({"code": "Int64"})


def share_texts(
    read: Sequence[tuple[Tokens, np.ndarray]], texts: Sequence[str], bare: Sequence[float]
) -> dict[str, np.ndarray]:
    """The options' shares by every reading of TEXT_READINGS: a softmax over the options of the reading's logarithms.

    `texts` are the option texts whose characters are counted, `bare` the log-probability of each after the bare lead.
    """
    total = np.array([logs.sum() for _, logs in read])
    readings = (total, total / [len(tail) for tail, _ in read], total / [len(text) for text in texts], total - np.array(bare))
    weights = [np.exp(values - values.max()) for values in readings]
    return {name: weight / weight.sum() for name, weight in zip(TEXT_READINGS, weights, strict=True)}


def parse_answer(text: str, options: Sequence[str], normalise: Callable[[str], str]) -> int | None:
    """Place (1..n) of the option that a generated answer names, by its label or else by its text; None where it names none.

    The first line that is not empty counts. A label is a whole number at its beginning; a text stands at its beginning in the
    language's normal form, the longest that fits.

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
