"""Simulated participants: a model asked many times for three words, as people were, so that its answers are counted like theirs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from align_utils import prompts
from align_utils.adapters import find_adapter
from align_utils.artifacts import find_step, hash_file, hash_settings, make_step, read_frame, save_frame
from align_utils.config import Config, ConfigError, Language, Participants
from align_utils.decoder import continue_rows, draw_tokens
from align_utils.generation import find_stop_tokens, load_states, pick_examples
from align_utils.models import hash_base, use_adapter
from align_utils.stages import find_state, list_stages
from align_utils.trials import find_missing

# Bumped when this module's results change for the same settings.
VERSION = 1
COLUMNS = ["participant", "cue", "R1", "R2", "R3"]


def read_words(language: Language, text: str, *, cue: str, ended: bool) -> list[str]:
    """Words of an answer that are complete: what follows the last separator counts only if the line has ended.

    Examples
    --------
    >>> from align_utils import config
    >>> en = config.load("smoke").languages["en"]
    >>> read_words(en, " cat, bone, ba", cue="dog", ended=False), read_words(en, " cat, bone, ba", cue="dog", ended=True)
    (['cat', 'bone'], ['cat', 'bone', 'ba'])
    """
    if not ended:
        found = list(prompts.SEPARATORS.finditer(text))
        text = text[: found[-1].start()] if found else ""
    return prompts.parse_list(language, text, cue=cue)


def sample_words(
    model,
    tokenizer,
    language: Language,
    cues: Sequence[str],
    asked: Sequence[str],
    *,
    n: int,
    words: int,
    temperature: float,
    max_new_tokens: int,
    batch: int,
    seed: int,
    label: str = "",
) -> pd.DataFrame:
    """Lists of `n` participants for every cue, drawn from the model's whole distribution.

    A prompt is read once for all its participants, and a list ends with its last word's separator. Each cue has random numbers
    of its own: its lists depend on the seed, not on the other cues, and a larger n only adds participants.

    Parameters
    ----------
    cues, asked : sequence of str
        Cues and the prompts that ask for them.
    words : int
        Words a list holds at most.
    temperature : float
        Above 0; 1: the model's own distribution.
    max_new_tokens, batch : int
        A word that is not finished by then is dropped; lists that grow together.

    Returns
    -------
    DataFrame
        `participant` (1..n), `cue, responses` (list of str), `text` (as generated), sorted by cue as given.
    """
    stops = set(find_stop_tokens(tokenizer))
    tokens = [tokenizer(text)["input_ids"] for text in asked]
    order, size = sorted(range(len(cues)), key=lambda i: len(tokens[i])), max(1, batch // n)
    found: dict[int, list[tuple[list[str], str]]] = {}

    def has_ended(text: str, new: list[int]) -> bool:
        return new[-1] in stops or "\n" in text.lstrip()

    for start in tqdm(range(0, len(order), size), desc=label or "participants", unit="batch", leave=False):
        chosen = order[start : start + size]
        uniform = torch.from_numpy(np.concatenate([
            np.random.default_rng([seed, crc32(cues[i].encode())]).random((n, max_new_tokens)) for i in chosen
        ])).float()  # fmt: skip

        def pick(scores, _, rows, step, uniform=uniform):
            return draw_tokens(scores, uniform[rows, step], temperature=temperature)

        def ends(row, new, chosen=chosen):
            text, cue = tokenizer.decode(new, skip_special_tokens=True), cues[chosen[row // n]]
            return has_ended(text, new) or len(read_words(language, text, cue=cue, ended=False)) >= words

        rows = continue_rows(
            model, tokenizer.pad_token_id, [tokens[i] for i in chosen], pick=pick, ends=ends, copies=n,
            max_new_tokens=max_new_tokens,
        )  # fmt: skip
        drawn = tokenizer.batch_decode(rows, skip_special_tokens=True)
        for place, i in enumerate(chosen):
            mine = slice(place * n, place * n + n)
            found[i] = [
                (read_words(language, text, cue=cues[i], ended=has_ended(text, new))[:words], text)
                for text, new in zip(drawn[mine], rows[mine], strict=True)
            ]
    records = [[number + 1, cue, *found[i][number]] for i, cue in enumerate(cues) for number in range(n)]
    return pd.DataFrame(records, columns=["participant", "cue", "responses", "text"])


def sample_answers(
    model, tokenizer, language: Language, cues: Sequence[str], asked: Sequence[str], settings: Participants, *, seed: int,
    label: str = "",
) -> pd.DataFrame:  # fmt: skip
    """Answers of simulated participants in the form of people's trials (`sample_words` of `settings`).

    Returns
    -------
    DataFrame
        `participant` (1..n), `cue, R1, R2, R3` (as `norms.build_strengths` reads them; empty where missing), `text` (as
        generated), sorted by cue as given.
    """
    drawn = sample_words(
        model, tokenizer, language, cues, asked, n=settings.n, words=settings.words, temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens, batch=settings.batch, seed=seed, label=label,
    )  # fmt: skip
    records = [
        [row.participant, row.cue, *(row.responses + [""] * 3)[:3], row.text]
        for row in drawn.itertuples(index=False, name="Row")
    ]
    frame = pd.DataFrame(records, columns=[*COLUMNS, "text"])
    for column in ("R1", "R2", "R3"):
        # 'NA' and the like stand for no answer, as in people's files.
        frame[column] = frame[column].mask(find_missing(frame[column], language), "")
    return frame


def simulate(cfg: Config, name: str, data: dict[str, dict], cues: dict[str, list[str]]) -> list[Path]:
    """Sampled answers of every culture and stage of `participants.stages` (none named: all), one stored step each; nothing if `participants.n` is 0.

    Parameters
    ----------
    name : str
        Model of the profile.
    data : dict
        From `pairs.load_stage`.
    cues : dict
        Culture to the cues asked (`panels.pick_cues`).

    Returns
    -------
    list of Path
        `runs/<profile>/participants/<model>_<culture>.parquet`: `model, culture, stage, participant, cue, R1, R2, R3, text`.

    Raises
    ------
    ConfigError
        A stage is neither untuned nor has an adapter in this run.
    """
    wanted = cfg.profile.participants
    if not wanted.n:
        return []
    cells = [(culture, stage) for culture in cfg.cultures for stage in _pick_stages(cfg)]
    settings = {cell: _describe(cfg, name, *cell, data[cell[0]], cues[cell[0]]) for cell in cells}
    folders = {cell: cfg.runs / "steps" / "participants" / f"{name}_{cell[0]}_{cell[1]}" for cell in cells}
    open_steps = [cell for cell in cells if not find_step(folders[cell], settings[cell])]
    if open_steps:
        model, tokenizer, adapters = load_states(cfg, name)
    for culture, stage in tqdm(open_steps, desc="participants", unit="stage"):
        with (
            make_step(
                folders[culture, stage], settings[culture, stage], remedy="lower participants.batch in the profile"
            ) as work,
            use_adapter(model, adapters.get(find_state(cfg, culture, stage))),
        ):
            language, source = cfg.language_of(culture), data[culture]
            examples = pick_examples(cfg, source["norms"], source["cues"]["train"]) if stage == "few_shot" else ()
            asked = [prompts.build_few_shot(language, examples, cue) for cue in cues[culture]]
            seed = crc32(f"{cfg.profile.seed} {name} {culture} {stage}".encode())
            label = f"{culture} {stage}, {wanted.n} participants"
            answers = sample_answers(model, tokenizer, language, cues[culture], asked, wanted, seed=seed, label=label)
            save_frame(answers, work / "answers.parquet")
    return [_collect(cfg, name, culture, folders) for culture in cfg.cultures]


def load_participants(cfg: Config) -> pd.DataFrame:
    """Answers of the run's simulated participants, as `simulate` left them; an empty frame if `participants.n` is 0."""
    columns = ["model", "culture", "stage", *COLUMNS, "text"]
    if not cfg.profile.participants.n:
        return pd.DataFrame(columns=columns)
    paths = [cfg.runs / "participants" / f"{model}_{culture}.parquet" for model in cfg.models for culture in cfg.cultures]
    return pd.concat([read_frame(path, made_by="04_lexical_alignment") for path in paths], ignore_index=True)[columns]


def _pick_stages(cfg: Config) -> tuple[str, ...]:
    known, wanted = list_stages(cfg), cfg.profile.participants.stages
    unknown = [stage for stage in wanted if stage not in known]
    if unknown:
        raise ConfigError(
            f"profile '{cfg.profile.name}': participants.stages: '{unknown[0]}' is no stage of this run ({', '.join(known)})"
        )
    return tuple(wanted) or known


def _collect(cfg: Config, name: str, culture: str, folders: dict) -> Path:
    parts = [
        pd.read_parquet(folders[culture, stage] / "answers.parquet").assign(model=name, culture=culture, stage=stage)
        for stage in _pick_stages(cfg)
    ]
    return save_frame(pd.concat(parts, ignore_index=True), cfg.runs / "participants" / f"{name}_{culture}.parquet")


def _describe(cfg: Config, name: str, culture: str, stage: str, source: dict, cues: list[str]) -> dict:
    state = find_state(cfg, culture, stage)
    weights = find_adapter(cfg, name, *state) / "adapter_model.safetensors" if state else None
    few_shot = {"norms": hash_file(source["path"]), "train": hash_settings({"cues": source["cues"]["train"]})}
    return {
        "version": VERSION, "base": hash_base(cfg.models[name], seed=cfg.profile.seed), "stage": stage, "culture": culture,
        "adapter": hash_file(weights) if weights and weights.is_file() else None, "cues": hash_settings({"cues": cues}),
        "examples": {**few_shot, "count": cfg.profile.lexical.few_shot, "length": cfg.profile.sft.list_length} if stage == "few_shot" else None,
        "seed": cfg.profile.seed, "participants": cfg.profile.participants.model_dump(exclude={"stages", "cues"}),
        "language": cfg.language_of(culture).model_dump(include={"list_prompt", "list_lead", "separator", "remove_spaces", "missing"}),
    }  # fmt: skip
