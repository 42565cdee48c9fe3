"""Untuned models behind a URL as baselines of the survey: their answers by label, with bounds for what a top list leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from align_utils import server, survey
from align_utils.artifacts import find_step, hash_settings, make_step, save_frame
from align_utils.config import Config
from align_utils.presentations import Question, list_questions, tabulate_answers

# Bumped when this module's results change for the same settings.
VERSION = 1
# A label may follow the prompt at once or after a space; the probabilities are added up.
SPACES = ("", " ")
# A beginning of a label with less probability than this is not followed by a request of its own: it is bounded.
FOLLOW = 1e-3


def read_labels(
    prompt: str, labels: Sequence[str], tops: dict[str, dict[str, float]], *, spaces: Sequence[str] = SPACES
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Bounds for the probability of each label, from top lists of next tokens.

    A token that is a whole label counts for it; one that begins a label (a space, or the '1' of '10') is followed to the prompt
    with that token added. What goes on from '1' to '10' is not an answer '1'. Where a token is not in a list, its probability
    lies between 0 and the lowest one of the list, and below what the list leaves of one.

    Parameters
    ----------
    tops : dict
        Prompt to {token: log-probability}, from `server.ask_next`.

    Returns
    -------
    (ndarray, ndarray, list of str)
        Lower and upper bound of each label, shape (n_labels,), in [0, 1]; the prompts that are missing in `tops` (the bounds
        are final when there is none).

    Examples
    --------
    >>> from math import log
    >>> low, high, missing = read_labels("Q:", ["1", "2"], {"Q:": {"1": log(0.5), " 2": log(0.25)}})
    >>> low.round(2).tolist(), high.round(2).tolist(), missing
    ([0.5, 0.25], [0.75, 0.5], [])
    """
    forms = {space + label: index for index, label in enumerate(labels) for space in spaces}
    missing: list[str] = []

    def follow(before: str) -> tuple[np.ndarray, np.ndarray]:
        # Given what was written before, the probability that each label comes of it; what is complete already does not count.
        low, high = np.zeros(len(labels)), np.zeros(len(labels))
        rest = {form[len(before) :]: index for form, index in forms.items() if form.startswith(before) and form != before}
        if not rest:
            return low, high
        if prompt + before not in tops:
            missing.append(prompt + before)
            return low, high
        shares = {token: float(np.exp(value)) for token, value in tops[prompt + before].items()}
        left, lowest = max(0.0, 1 - sum(shares.values())), min(shares.values())
        for token, share in shares.items():
            if not token or not any(form.startswith(token) for form in rest):
                continue
            inside = follow(before + token) if share >= FOLLOW else None
            if inside is None:
                begun = {index for form, index in rest.items() if form.startswith(token) and form != token}
                inside = np.zeros(len(labels)), np.isin(np.arange(len(labels)), list(begun)).astype(float)
            low, high = low + share * inside[0], high + share * inside[1]
            if token in rest:
                low[rest[token]] += share * max(0.0, 1 - inside[1].sum())
                high[rest[token]] += share * max(0.0, 1 - inside[0].sum())
        absent = {index: set() for index in rest.values()}
        for form, index in rest.items():
            absent[index] |= {form[:end] for end in range(1, len(form) + 1)} - set(shares)
        for index, tokens in absent.items():
            high[index] += min(len(tokens) * lowest, left)
        return low, np.minimum(high, 1.0)

    low, high = follow("")
    return low, high, missing


def score_labels(
    source, asked: Sequence[Question], cache: Path, *, spaces: Sequence[str] = SPACES, url: str | None = None
) -> tuple[list[np.ndarray], pd.DataFrame]:
    """Probability of each label of each question (places 1..n), as far as the server's top lists tell it.

    Returns
    -------
    (list of ndarray, DataFrame)
        As `survey.score_labels`: what was seen, the lower bounds; a presentation of which no label was seen at all gets the same
        tiny number for all. And a row a presentation: `language, persona, question, seen` (mass of the labels), `unseen`
        (what the bounds allow beyond it), `missing` (labels not seen), `error` (how far the share of a label may be off).

    Raises
    ------
    server.ServerError
        See `server.ask_next`; or no label was seen in any presentation.
    """
    labels = [[str(place + 1) for place in range(len(q.order))] for q in asked]
    tops: dict[str, dict[str, float]] = {}
    wanted, depth = [q.prompt for q in asked], 0
    while wanted:
        tops |= server.ask_next(source, wanted, cache, url=url, label=f"{source.name}, token {(depth := depth + 1)}")
        read = [read_labels(q.prompt, names, tops, spaces=spaces) for q, names in zip(asked, labels, strict=True)]
        wanted = [prompt for _, _, missing in read for prompt in missing]
    rows = []
    for q, (low, high, _) in zip(asked, read, strict=True):
        rows.append({
            "language": q.language, "persona": q.persona, "question": q.question, "seen": low.sum(),
            "unseen": (high - low).sum(), "missing": int((low == 0).sum()), "error": _bound_error(low, high),
        })  # fmt: skip
    bounds = pd.DataFrame(rows)
    if not (bounds["seen"] > 0).any():
        raise server.ServerError(
            f"model '{source.name}': no label of any question is among the {source.top_logprobs} likeliest tokens after it; raise "
            f"`top_logprobs`, or the server puts the prompt into a chat template (likeliest after the first: {list(tops[asked[0].prompt])[:5]})"
        )
    return [low if low.sum() > 0 else np.full(len(low), 1e-12) for low, _, _ in read], bounds


def _bound_error(low: np.ndarray, high: np.ndarray) -> float:
    if low.sum() == 0:
        return 1.0
    share, others = low / low.sum(), high.sum() - high
    most = high / np.maximum(high + low.sum() - low, 1e-300)
    least = low / np.maximum(low + others, 1e-300)
    return float(np.maximum(most - share, share - least).max())


def ask_baselines(cfg: Config, items: pd.DataFrame) -> tuple[list[Path], list[str]]:
    """Ask every baseline of the profile all presentations of the items; what is stored is not asked again.

    A baseline without an address and without stored answers to these questions is left out, and said.

    Returns
    -------
    (list of Path, list of str)
        `runs/<profile>/survey/<baseline>.parquet`, as from `survey.ask_survey` (adapter 'none', stage 'zero_shot'); a sentence
        for each baseline that was left out.
    """
    paths, sentences = [], []
    asked = list_questions(cfg, items)
    for name, source in tqdm(cfg.baselines.items(), desc="baselines", unit="model", leave=False):
        path = cfg.runs / "survey" / f"{name}.parquet"
        settings = {
            "version": VERSION, "source": server.hash_source(source),
            "questions": hash_settings({"asked": [[q.prompt, list(q.order), list(q.codes)] for q in asked]}),
        }  # fmt: skip
        folder = _find_folder(cfg, name)
        if not find_step(folder, settings):
            if server.find_url(source) is None:
                # Answers to other questions must not stand beside these.
                path.unlink(missing_ok=True)
                sentences.append(
                    f"baseline {name} was not asked: start its server, set {source.url_variable}=http://<host>:<port>/v1, then "
                    f"make -W notebooks/05_wvs_survey.ipynb reproduce PROFILE={cfg.profile.name}"
                )
                continue
            cache = folder.with_name(f"{name}-requests-{settings['source']}.jsonl")
            with make_step(folder, settings) as work:
                scores, bounds = score_labels(source, asked, cache)
                save_frame(bounds, work / "bounds.parquet")
                frame = tabulate_answers(asked, scores, [score.sum() for score in scores])
                save_frame(frame.assign(readout="label", refusal_mass=np.nan), work / "answers.parquet")
        frame = pd.read_parquet(folder / "answers.parquet")
        frame = frame.assign(model=name, adapter="none", stage="zero_shot", seed=cfg.profile.seed)
        paths.append(save_frame(survey.add_priors(frame, items), path))
    return paths, sentences


def describe_bounds(cfg: Config) -> pd.DataFrame:
    """How far the top lists of the baselines that were asked leave their answers open.

    Returns
    -------
    DataFrame
        `model, language, n` (presentations), `labels not seen` (share of them), `without any` (presentations of which no label
        was seen; their answers are taken as uniform), `mean error`, `largest error` (of a label's share of the option mass).
    """
    rows = []
    for name in cfg.baselines:
        folder = _find_folder(cfg, name)
        if not (folder / "step.json").is_file() or not (cfg.runs / "survey" / f"{name}.parquet").is_file():
            continue
        answers = pd.read_parquet(folder / "answers.parquet").groupby("language").size()
        for language, part in pd.read_parquet(folder / "bounds.parquet").groupby("language", sort=False):
            rows.append({
                "model": name, "language": language, "n": len(part),
                "labels not seen": part["missing"].sum() / answers[language], "without any": int((part["seen"] == 0).sum()),
                "mean error": part["error"].mean(), "largest error": part["error"].max(),
            })  # fmt: skip
    columns = ["model", "language", "n", "labels not seen", "without any", "mean error", "largest error"]
    return pd.DataFrame(rows, columns=columns)


def _find_folder(cfg: Config, name: str) -> Path:
    return cfg.runs / "steps" / "survey" / f"{name}_server"
