"""Ask a model the survey: label probabilities over the options, in several option orders, by language and persona."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from align_utils import prompts
from align_utils.adapters import find_adapter
from align_utils.artifacts import find_step, hash_file, hash_settings, make_step, save_frame
from align_utils.config import Config
from align_utils.generation import load_states
from align_utils.models import hash_base, use_adapter
from align_utils.prefix import read_batch
from align_utils.stages import list_trained

# Bumped when this module's results change for the same settings.
VERSION = 2


@dataclass(frozen=True)
class Question:
    """One presentation of an item: its prompt, the order of its options and where it belongs."""

    question: str
    language: str
    persona: str
    order: tuple[int, ...]
    codes: tuple[int, ...]
    prompt: str


def list_questions(cfg: Config, items: pd.DataFrame) -> list[Question]:
    """Every presentation the profile asks: items x languages x personas x option orders (`prompts.list_orders`)."""
    asked = []
    for language in cfg.languages.values():
        for persona in cfg.profile.survey.personas:
            lead = "" if persona == "none" else language.personas[persona]
            for item in items.to_dict("records"):
                labels = item[f"labels_{language.name}"]
                numeric = any(label.isdigit() for label in labels)
                for order in prompts.list_orders(len(labels), numeric=numeric):
                    text = prompts.build_survey_prompt(language, item[f"text_{language.name}"], labels, order, persona=lead)
                    asked.append(Question(item["question"], language.name, persona, tuple(order), tuple(item["codes"]), text))
    return asked


def plan_contexts(tokenizer, prompt: str, labels: Sequence[str]) -> dict[tuple[int, ...], dict[int, list[int]]]:
    """Which next-token probabilities give the probability of each label after a prompt.

    The prompt and each label are tokenised as one string, since a tokeniser may join them; the longest common prefix of those
    is the context. A label of several tokens needs a context for each of its tokens; a label that is a proper prefix of
    another ('1' of '10') needs the next context too, to subtract what goes on.

    Returns
    -------
    dict
        Context (token ids) to {next token id: indices of the labels that pass through it}.

    Examples
    --------
    See tests/test_survey.py: hand-made tokenisers in which ' 1' is one token, two tokens, and a prefix of ' 10'.
    """
    joined = [tokenizer(f"{prompt} {label}")["input_ids"] for label in labels]
    common = 0
    while all(len(ids) > common for ids in joined) and len({ids[common] for ids in joined}) == 1:
        common += 1
    # A label whose tokens are all common (it is a prefix of every other) keeps its last token for itself.
    common = min(common, min(map(len, joined)) - 1)
    plan: dict[tuple[int, ...], dict[int, list[int]]] = {}
    for index, ids in enumerate(joined):
        for end in range(common, len(ids)):
            plan.setdefault(tuple(ids[:end]), {}).setdefault(ids[end], []).append(index)
    return plan


@torch.inference_mode()
def read_next(model, tokenizer, contexts: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Log-probabilities of the next token after each context; what they have in common is read once.

    Returns
    -------
    list of ndarray, shape (vocabulary,)
        float32, in the order of `contexts`.
    """
    given = read_batch(model, tokenizer.pad_token_id, contexts)
    output = model(
        input_ids=given.ids[:, given.shared :], attention_mask=given.mask, position_ids=given.positions[:, given.shared :],
        past_key_values=given.cache, logits_to_keep=1, use_cache=given.cache is not None,
    )  # fmt: skip
    return list(torch.log_softmax(output.logits[:, -1].float(), dim=-1).cpu().numpy())


def score_labels(model, tokenizer, asked: Sequence[Question], *, batch_tokens: int, label: str = "") -> list[np.ndarray]:
    """Probability of each label of each question (places 1..n), not normalised: their sum is the option mass.

    The presentations of one item in one language go through the model together, `batch_tokens` tokens at a time.

    Returns
    -------
    list of ndarray, shape (n_options,)
    """
    plans = [plan_contexts(tokenizer, q.prompt, [str(place + 1) for place in range(len(q.order))]) for q in asked]
    # Rows of the whole vocabulary are large: only what the plans ask for is kept.
    wanted: dict[tuple[int, ...], list[int]] = {}
    groups: dict[tuple[str, ...], dict[tuple[int, ...], None]] = {}
    for q, plan in zip(asked, plans, strict=True):
        for context, tokens in plan.items():
            wanted.setdefault(context, []).extend(tokens)
            groups.setdefault((q.language, q.persona, q.question), {})[context] = None
    logs: dict[tuple[int, ...], dict[int, float]] = {}
    for group in tqdm(groups.values(), desc=label or "survey", unit="item", leave=False):
        contexts = list(group)
        size = max(1, batch_tokens // max(map(len, contexts)))
        for start in range(0, len(contexts), size):
            part = contexts[start : start + size]
            for context, row in zip(part, read_next(model, tokenizer, part), strict=True):
                logs[context] = {token: float(row[token]) for token in wanted[context]}
    return [_resolve(plan, logs, len(q.order)) for q, plan in zip(asked, plans, strict=True)]


def _resolve(plan: dict, logs: dict, n: int) -> np.ndarray:
    total = np.zeros(n)
    last: dict[int, tuple[int, ...]] = {}
    for context in sorted(plan, key=len):
        for token, indices in plan[context].items():
            for index in indices:
                total[index] += logs[context][token]
                last[index] = (*context, token)
    probability = np.exp(total)
    # '1' and '10': the mass that goes on from '1' to '10' is not an answer '1'.
    for index, path in last.items():
        for other, longer in last.items():
            if other != index and longer[: len(path)] == path:
                probability[index] = max(0.0, probability[index] - np.exp(total[other]))
    return probability


def ask_survey(cfg: Config, name: str, items: pd.DataFrame) -> list[Path]:
    """Ask the base model and every adapter of the run all presentations of the items.

    Returns
    -------
    list of Path
        `runs/<profile>/survey/<model>.parquet`, one row an answer option: `model, adapter` (culture of the norms, or 'none'),
        `stage, language, persona, question, order` (index), `place` (1..n), `code, probability` (share of the option mass),
        `option_mass`.
    """
    states = [("none", "zero_shot"), *[(culture, stage) for culture in cfg.cultures for stage in list_trained(cfg)]]
    asked = list_questions(cfg, items)
    settings = {state: _describe(cfg, name, state, asked) for state in states}
    folders = {state: cfg.runs / "steps" / "survey" / f"{name}_{state[0]}_{state[1]}" for state in states}
    open_states = [state for state in states if not find_step(folders[state], settings[state])]
    if open_states:
        model, tokenizer, adapters = load_states(cfg, name)
    for state in tqdm(open_states, desc="answerers", unit="model"):
        remedy = "lower survey.batch_tokens in the profile"
        with make_step(folders[state], settings[state], remedy=remedy) as work, use_adapter(model, adapters.get(state)):
            label = " ".join(state)
            scores = score_labels(model, tokenizer, asked, batch_tokens=cfg.profile.survey.batch_tokens, label=label)
            save_frame(_tabulate(asked, scores), work / "answers.parquet")
    frames = [pd.read_parquet(folders[a, s] / "answers.parquet").assign(adapter=a, stage=s) for a, s in states]
    frame = pd.concat(frames, ignore_index=True).assign(model=name)
    columns = [
        "model",
        "adapter",
        "stage",
        "language",
        "persona",
        "question",
        "order",
        "place",
        "code",
        "probability",
        "option_mass",
    ]
    return [save_frame(frame[columns], cfg.runs / "survey" / f"{name}.parquet")]


def _tabulate(asked: Sequence[Question], scores: Sequence[np.ndarray]) -> pd.DataFrame:
    rows, seen = [], {}
    for q, score in zip(asked, scores, strict=True):
        number = seen[q.language, q.persona, q.question] = seen.get((q.language, q.persona, q.question), -1) + 1
        for place, index in enumerate(q.order):
            rows.append({
                "language": q.language, "persona": q.persona, "question": q.question, "order": number, "place": place + 1,
                "code": q.codes[index], "probability": score[place] / score.sum(), "option_mass": score.sum(),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _describe(cfg: Config, name: str, state: tuple[str, str], asked: Sequence[Question]) -> dict:
    weights = find_adapter(cfg, name, *state) / "adapter_model.safetensors"
    return {
        "version": VERSION, "base": hash_base(cfg.models[name], seed=cfg.profile.seed), "state": list(state),
        "adapter": hash_file(weights) if weights.is_file() else None,
        "questions": hash_settings({"asked": [[q.prompt, list(q.order), list(q.codes)] for q in asked]}),
    }  # fmt: skip
