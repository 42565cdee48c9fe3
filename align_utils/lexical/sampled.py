"""Answers drawn at temperature 1: simulated participants beside people, and Precision@5 of drawn lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from scipy.special import gammaln, rel_entr
from scipy.stats import rankdata

from align_utils.config.profiles import Config
from align_utils.config.settings import ConfigError, Language, Participants
from align_utils.config.stages import TARGETS, find_state, list_contrasts, list_stages, list_trained
from align_utils.lexical.lists import pick_examples
from align_utils.lexical.precision import PRECISION_READINGS, score_lists
from align_utils.models.adapters import find_adapter, load_states
from align_utils.models.decode import continue_rows, draw_tokens, find_stop_tokens
from align_utils.models.load import hash_base, use_adapter
from align_utils.models.prompts import SEPARATORS, build_few_shot, parse_list
from align_utils.norms.files import find_missing
from align_utils.norms.split import CultureNorms
from align_utils.norms.strengths import build_strengths
from align_utils.stats import adjust_holm, compare, summarise
from align_utils.store.page import list_records
from align_utils.store.steps import find_step, hash_file, hash_settings, make_step, progress, read_frame, save_frame

# Bumped when this module's results change for the same settings.
SAMPLED_VERSION = 1
TRIAL_COLUMNS = ["participant", "cue", "R1", "R2", "R3"]


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
        found = list(SEPARATORS.finditer(text))
        text = text[: found[-1].start()] if found else ""
    return parse_list(language, text, cue=cue)


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

    for start in progress(range(0, len(order), size), desc=label or "participants", unit="batch", leave=False):
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
    frame = pd.DataFrame(records, columns=[*TRIAL_COLUMNS, "text"])
    for column in ("R1", "R2", "R3"):
        # 'NA' and the like stand for no answer, as in people's files.
        frame[column] = frame[column].mask(find_missing(frame[column], language), "")
    return frame


def simulate(cfg: Config, name: str, data: dict[str, CultureNorms], cues: dict[str, list[str]]) -> list[Path]:
    """Sampled answers of every culture and stage of `participants.stages` (none named: all), one stored step each; nothing if `participants.n` is 0.

    Parameters
    ----------
    name : str
        Model of the profile.
    data : dict
        From `pairs.load_run`.
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
    settings = {cell: _describe_participants(cfg, name, *cell, data[cell[0]], cues[cell[0]]) for cell in cells}
    folders = {cell: cfg.runs / "steps" / "participants" / f"{name}_{cell[0]}_{cell[1]}" for cell in cells}
    open_steps = [cell for cell in cells if not find_step(folders[cell], settings[cell])]
    if open_steps:
        model, tokenizer, adapters = load_states(cfg, name)
    for culture, stage in progress(open_steps, desc="participants", unit="stage"):
        with (
            make_step(
                folders[culture, stage], settings[culture, stage], remedy="lower participants.batch in the profile"
            ) as work,
            use_adapter(model, adapters.get(find_state(cfg, culture, stage))),
        ):
            language, source = cfg.language_of(culture), data[culture]
            examples = pick_examples(cfg, source.norms, source.cues["train"]) if stage == "few_shot" else ()
            asked = [build_few_shot(language, examples, cue) for cue in cues[culture]]
            seed = crc32(f"{cfg.profile.seed} {name} {culture} {stage}".encode())
            label = f"{culture} {stage}, {wanted.n} participants"
            answers = sample_answers(model, tokenizer, language, cues[culture], asked, wanted, seed=seed, label=label)
            save_frame(answers, work / "answers.parquet")
    return [_collect(cfg, name, culture, folders) for culture in cfg.cultures]


def load_participants(cfg: Config) -> pd.DataFrame:
    """Answers of the run's simulated participants, as `simulate` left them; an empty frame if `participants.n` is 0."""
    columns = ["model", "culture", "stage", *TRIAL_COLUMNS, "text"]
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


def _describe_participants(cfg: Config, name: str, culture: str, stage: str, source: CultureNorms, cues: list[str]) -> dict:
    state = find_state(cfg, culture, stage)
    weights = find_adapter(cfg, name, *state) / "adapter_model.safetensors" if state else None
    few_shot = {"norms": hash_file(source.path), "train": hash_settings({"cues": source.cues["train"]})}
    return {
        "version": SAMPLED_VERSION, "base": hash_base(cfg.models[name], seed=cfg.profile.seed), "stage": stage, "culture": culture,
        "adapter": hash_file(weights) if weights and weights.is_file() else None, "cues": hash_settings({"cues": cues}),
        "examples": {**few_shot, "count": cfg.profile.lexical.few_shot, "length": cfg.profile.sft.list_length} if stage == "few_shot" else None,
        "seed": cfg.profile.seed, "participants": cfg.profile.participants.model_dump(exclude={"stages", "cues"}),
        "language": cfg.language_of(culture).model_dump(include={"list_prompt", "list_lead", "separator", "remove_spaces", "missing"}),
    }  # fmt: skip


POPULATION_MEASURES = (
    "precision_top", "precision_attested", "js_distance", "shared_mass", "attested_share", "rank_correlation", "entropy",
    "entropy_gap", "distinct", "distinct_gap",
)  # fmt: skip
# A panel's strongest responses that stand for its list.
STRONGEST = 5


def measure_divergence(p: Sequence[float], q: Sequence[float]) -> float:
    """Jensen-Shannon distance, base 2: the root of the divergence, in [0, 1].

    Parameters
    ----------
    p, q : array-like, shape (n,)
        Shares of the same n responses, each summing to 1.

    Source
    ------
    Endres and Schindelin (2003), IEEE Transactions on Information Theory 49(7).

    Examples
    --------
    >>> measure_distance([1, 0], [0, 1]), measure_distance([0.5, 0.5], [0.5, 0.5])
    (1.0, 0.0)
    """
    p, q = np.asarray(p, dtype=float), np.asarray(q, dtype=float)
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle).sum() + rel_entr(q, middle).sum()) / (2 * np.log(2))
    return float(np.sqrt(np.clip(divergence, 0, 1)))


def correlate_strengths(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman correlation, in [-1, 1]; NaN for fewer than three pairs or where one side is all alike."""
    if len(first) < 3 or len(set(first)) == 1 or len(set(second)) == 1:
        return float("nan")
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def rarefy(counts: Sequence[int], size: int) -> tuple[float, float]:
    """Expected number of distinct responses, and their entropy in bits, among `size` responses drawn without replacement.

    Exact: the count of a response that was given c times of N follows the hypergeometric distribution. A sample shows fewer
    responses than the whole, so two sets of answers can be compared only at one size.

    Parameters
    ----------
    counts : array-like of int
        How often each response was given; N is their sum.
    size : int
        From 1 to N; at N the observed values come back.

    Source
    ------
    Hurlbert (1971), Ecology 52(4) (rarefaction of the number of kinds); the entropy is the same expectation.

    Examples
    --------
    >>> rarefy([2, 1, 1], 4)
    (3.0, 1.5)
    >>> distinct, entropy = rarefy([1, 1, 2], 2)  # of the six pairs, five hold two different responses
    >>> round(distinct, 4), round(entropy, 4)
    (1.8333, 0.8333)
    """
    values, copies = np.unique(np.asarray(counts, dtype=int), return_counts=True)
    total = int(values @ copies)
    if not 1 <= size <= total:
        raise ValueError(f"rarefy: size {size} is not from 1 to the number of responses, {total}")
    given, drawn = values[:, None], np.arange(1, min(size, values.max()) + 1)[None, :]
    possible = (drawn <= given) & (size - drawn <= total - given)
    # Impossible cells get harmless arguments and no weight.
    k, rest = np.where(possible, drawn, 0), np.where(possible, size - drawn, 0)
    chance = np.exp(_log_choose(given, k) + _log_choose(total - given, rest) - _log_choose(total, size)) * possible
    share = drawn / size
    distinct = copies @ chance.sum(axis=1)
    return float(distinct), float(abs(copies @ (chance * share * -np.log2(share)).sum(axis=1)))


def compare_populations(
    answers: pd.DataFrame, people: pd.DataFrame, cues: Sequence, language: Language, *, min_count: int
) -> pd.DataFrame:
    """Every measure of one set of answers against people's, cue by cue.

    Parameters
    ----------
    answers, people : DataFrame
        Strengths of either side, both from `norms.build_strengths` (`cue, response, count, rank`).
    cues : sequence
        Those to judge; people must have answered them.
    min_count : int
        As in `lexical.score_lists`.

    Returns
    -------
    DataFrame
        `cue, measure, value`; one row a cue and measure of MEASURES. Precision is that of the five strongest responses; shares,
        distance (0: alike, 1: nothing shared) and correlation are between the two distributions; `attested_share` is the share of
        the answers that people gave too: the precision of answers as they are drawn; `entropy` (bits) and `distinct`
        of the answers, and how much more they are (`_gap`, below 0: less varied) than people's at the same number of responses.
        Without answers to a cue precision, shared mass and attested share are 0, the others NaN.
    """
    strongest = (
        answers[answers["rank"] <= STRONGEST].sort_values(["cue", "rank"]).groupby("cue")["response"].agg(list).to_dict()
    )
    lists = pd.DataFrame({"cue": list(cues), "responses": [strongest.get(cue, []) for cue in cues]})
    scored = score_lists(lists, people, language, ks=[STRONGEST], min_count=min_count)
    precision = scored.set_index(["cue", "reading"])["precision"].to_dict()
    mine, theirs = _count(answers, language), _count(people, language)
    rows = []
    for cue in cues:
        values = _compare(mine.get(cue, {}), theirs[cue])
        values |= {f"precision_{reading}": precision[cue, reading] for reading in PRECISION_READINGS}
        rows += [{"cue": cue, "measure": measure, "value": values[measure]} for measure in POPULATION_MEASURES]
    return pd.DataFrame(rows, columns=["cue", "measure", "value"])


def compare_panels(
    trials: pd.DataFrame, cues: Sequence[str], language: Language, *, size: int, splits: int, min_count: int, seed: int
) -> pd.DataFrame:
    """The human level at equal size: a panel of `size` participants plays the model, the other people are the norm.

    Panels are drawn anew for every cue and split; of a cue with fewer than twice `size` people half of them play. As with
    `lexical.estimate_ceiling` the norm lacks the panel, so this is a lower bound.

    Returns
    -------
    DataFrame
        As `compare_populations`, averaged over the splits, and `people` (size of the panel).
    """
    rng = np.random.default_rng(seed)
    groups, panels, others, codes = dict(tuple(trials.groupby("cue"))), [], [], {}
    for cue in cues:
        group = groups[cue]
        playing = min(size, len(group) // 2)
        for _ in range(splits):
            # A number stands for a cue and split, so that all splits are counted at once.
            code, order = len(codes), rng.permutation(len(group))
            codes[code] = (cue, playing)
            panels.append(group.iloc[order[:playing]].assign(cue=code))
            others.append(group.iloc[order[playing:]].assign(cue=code))
    answers, people = (build_strengths(pd.concat(part), language, "R123") for part in (panels, others))
    table = compare_populations(answers, people, list(codes), language, min_count=min_count)
    table["people"] = [codes[code][1] for code in table["cue"]]
    table["cue"] = [codes[code][0] for code in table["cue"]]
    return table.groupby(["cue", "measure"], sort=False, as_index=False).agg(
        value=("value", "mean"), people=("people", "first")
    )


def draw_frequency(
    frame: pd.DataFrame, train: Sequence[str], cues: Sequence[str], *, size: int, words: int, seed: int
) -> pd.DataFrame:
    """Trials of people who ignore the cue: distinct words drawn in proportion to their frequency over the training cues."""
    counts = frame[frame["cue"].isin(set(train))].groupby("response")["count"].sum().sort_index()
    rng, share = np.random.default_rng(seed), (counts / counts.sum()).to_numpy()
    rows = []
    for cue in cues:
        for number in range(size):
            drawn = rng.choice(counts.index.to_numpy(), size=min(words, len(counts)), replace=False, p=share)
            rows.append([number + 1, cue, *[str(word) for word in drawn], "", ""][:5])
    return pd.DataFrame(rows, columns=["participant", "cue", "R1", "R2", "R3"])


def _log_choose(n, k):
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _count(strengths: pd.DataFrame, language: Language) -> dict:
    forms = strengths["response"].map({word: language.normalise(word) for word in strengths["response"].unique()})
    table: dict = {}
    for cue, form, count in zip(strengths["cue"], forms, strengths["count"], strict=True):
        given = table.setdefault(cue, {})
        given[form] = given.get(form, 0) + int(count)
    return table


def _compare(mine: dict[str, int], theirs: dict[str, int]) -> dict[str, float]:
    if not mine:
        return dict.fromkeys(POPULATION_MEASURES, float("nan")) | {"shared_mass": 0.0, "attested_share": 0.0}
    both = list(dict.fromkeys([*theirs, *mine]))
    p, q = (np.array([side.get(word, 0) for word in both], dtype=float) for side in (mine, theirs))
    p, q, shared = p / p.sum(), q / q.sum(), (p > 0) & (q > 0)
    # The model may have been asked more often than people were: both are brought to the smaller number of responses.
    size = min(sum(mine.values()), sum(theirs.values()))
    (distinct, entropy), (kinds, bits) = (rarefy(list(side.values()), size) for side in (mine, theirs))
    return {
        "js_distance": measure_divergence(p, q), "shared_mass": float(np.minimum(p, q).sum()), "attested_share": float(p[shared].sum()),
        "rank_correlation": correlate_strengths(p[shared], q[shared]), "entropy": entropy, "entropy_gap": entropy - bits,
        "distinct": distinct, "distinct_gap": distinct - kinds,
    }  # fmt: skip


PANEL_KEYS = ["model", "culture", "measure", "stage"]
UNITS = {"entropy": "bits", "entropy_gap": "bits", "distinct": "responses", "distinct_gap": "responses"}
# Fewer people than this cannot be halved into two panels.
FEWEST_TRIALS = 4


def load_participant_people(cfg: Config, stage: dict[str, CultureNorms]) -> dict[str, dict]:
    """What simulated participants are compared with, and the test cues they are asked.

    People are the participants' trials where a culture has them: published strength lists may be cut short, and a cut list would
    make people look less varied than they are. Of the test cues with at least four trials `participants.cues` are drawn by the
    seed, so that a larger number keeps the earlier ones. A culture without trials falls back on its strengths and has no human
    panel.

    Returns
    -------
    dict
        Culture to `trials` (frame of the cues asked, or None), `strengths` (`cue, response, count, n, strength, rank`), `cues`.
    """
    settings, people = cfg.profile.participants, {}
    for culture, data in stage.items():
        trials, known = data.trials, data.cues["test"]
        if trials is not None:
            given = trials[(trials[["R1", "R2", "R3"]] != "").any(axis=1)]
            sizes = given.groupby("cue").size()
            known = [cue for cue in known if sizes.get(cue, 0) >= FEWEST_TRIALS]
        order = np.random.default_rng(cfg.profile.seed).permutation(len(known))[: settings.cues]
        cues = [known[i] for i in order]
        if trials is None:
            people[culture] = {"trials": None, "strengths": data.norms, "cues": cues}
        else:
            part = given[given["cue"].isin(set(cues))]
            strengths = build_strengths(part, cfg.language_of(culture), "R123")
            people[culture] = {"trials": part, "strengths": strengths, "cues": cues}
    return people


def score_panels(
    cfg: Config, answers: pd.DataFrame, stage: dict[str, CultureNorms], people: dict[str, dict], families: dict
) -> pd.DataFrame:
    """Every measure for every stage's participants, for panels of people and for the frequency baseline, all of equal size.

    Parameters
    ----------
    answers : DataFrame
        From `participants.load_participants`.
    stage, people, families
        From `pairs.load_run`, `load_people` and `pairs.map_families`.

    Returns
    -------
    DataFrame
        `model, culture, stage, cue, measure, value, family`; stages `human` and `frequency` beside the model's.
    """
    settings, lexical, seed = cfg.profile.participants, cfg.profile.lexical, cfg.profile.seed
    columns = ["model", "culture", "stage", "cue", "measure", "value", "family"]
    if not settings.n:
        return pd.DataFrame(columns=columns)
    parts = []
    for culture, group in people.items():
        language, cues, theirs = cfg.language_of(culture), group["cues"], group["strengths"]
        mine = answers[answers["culture"] == culture]
        conditions = dict(tuple(mine.groupby(["model", "stage"], sort=False)))
        common = draw_frequency(
            stage[culture].norms, stage[culture].cues["train"], cues, size=settings.n, words=settings.words, seed=seed
        )
        conditions |= {(model, "frequency"): common for model in cfg.models}
        tables = {
            key: compare_populations(
                build_strengths(trials, language, "R123"), theirs, cues, language, min_count=lexical.min_count
            )
            for key, trials in conditions.items()
        }
        if group["trials"] is not None:
            human = compare_panels(
                group["trials"], cues, language, size=settings.n, splits=lexical.ceiling_splits, min_count=lexical.min_count,
                seed=seed,
            )  # fmt: skip
            tables |= {(model, "human"): human for model in cfg.models}
        parts += [table.assign(model=model, stage=name, culture=culture) for (model, name), table in tables.items()]
    scored = pd.concat(parts, ignore_index=True)
    scored["family"] = [families[key] for key in zip(scored["culture"], scored["cue"], strict=True)]
    return scored[columns]


def summarise_panels(cfg: Config, scored: pd.DataFrame) -> pd.DataFrame:
    """Means over cues with intervals over families: `model, culture, measure, stage, value, low, high, n`."""
    return summarise(scored, PANEL_KEYS, "value", unit="family", **cfg.bootstrap)


def contrast_panels(cfg: Config, scored: pd.DataFrame) -> pd.DataFrame:
    """Paired differences of every measure between stages; `p_holm` is adjusted over cultures and comparisons of one measure."""
    by = ["model", "culture", "measure"]
    pairs = list_contrasts(cfg)
    table = compare(scored, by, "value", over="stage", pairs=pairs, key="cue", unit="family", **cfg.bootstrap)
    table["p_holm"] = table.groupby(["model", "measure"])["p"].transform(lambda p: adjust_holm(p))
    return table


def list_participant_metrics(cfg: Config, summary: pd.DataFrame, contrasts: pd.DataFrame) -> list[dict]:
    """Metric records of the simulated participants: `participants_<measure>` and its differences (`method`: the comparison)."""
    language = {name: culture.language for name, culture in cfg.cultures.items()}
    records = []
    for table, suffix in ((summary, ""), (contrasts.rename(columns={"comparison": "method"}), "_difference")):
        for measure, part in table.groupby("measure", sort=False):
            tagged = part.assign(language=part["culture"].map(language), decoding="sampled")
            records += list_records(tagged, f"participants_{measure}{suffix}", unit=UNITS.get(measure, "share"))
    return records


# Bumped when this module's lists change for the same settings.
DRAWN_VERSION = 1
# Responses a list holds, and the K of its precision.
DRAWN_K = 5


def list_drawn(cfg: Config) -> tuple[str, ...]:
    """Stages whose lists are drawn: the untuned model with examples and what is trained on the culture's own norms."""
    return ("few_shot", *(name for name in list_trained(cfg) if name in TARGETS))


def draw_test_lists(cfg: Config, name: str, data: dict[str, CultureNorms]) -> list[Path]:
    """`lexical.drawn` lists of five responses for every test cue of every culture and stage of `list_drawn`, at temperature 1.

    Parameters
    ----------
    name : str
        Model of the profile.
    data : dict
        From `pairs.load_run`.

    Returns
    -------
    list of Path
        `runs/<profile>/drawn/<model>_<culture>.parquet`: `model, culture, stage, participant` (number of the list), `cue,
        responses, text`; one stored step a culture and stage. None if `lexical.drawn` is 0.
    """
    if not cfg.profile.lexical.drawn:
        return []
    cells = [(culture, stage) for culture in cfg.cultures for stage in list_drawn(cfg)]
    settings = {cell: _describe_drawn(cfg, name, *cell, data[cell[0]]) for cell in cells}
    folders = {cell: cfg.runs / "steps" / "drawn" / f"{name}_{cell[0]}_{cell[1]}" for cell in cells}
    open_steps = [cell for cell in cells if not find_step(folders[cell], settings[cell])]
    if open_steps:
        model, tokenizer, adapters = load_states(cfg, name)
    for culture, stage in progress(open_steps, desc="drawn lists", unit="stage"):
        cell, language, source = (culture, stage), cfg.language_of(culture), data[culture]
        with (
            make_step(folders[cell], settings[cell], remedy="lower participants.batch in the profile") as work,
            use_adapter(model, adapters.get(find_state(cfg, culture, stage))),
        ):
            examples = pick_examples(cfg, source.norms, source.cues["train"]) if stage == "few_shot" else ()
            cues = source.cues["test"]
            lists = sample_words(
                model, tokenizer, language, cues, [build_few_shot(language, examples, cue) for cue in cues],
                n=cfg.profile.lexical.drawn, words=DRAWN_K, temperature=1.0, max_new_tokens=cfg.profile.lexical.max_new_tokens,
                batch=cfg.profile.participants.batch, label=f"{culture} {stage}",
                seed=crc32(f"{cfg.profile.seed} {name} {culture} {stage} lists".encode()),
            )  # fmt: skip
            save_frame(lists.assign(model=name, culture=culture, stage=stage), work / "lists.parquet")
    paths = []
    for culture in cfg.cultures:
        parts = [pd.read_parquet(folders[culture, stage] / "lists.parquet") for stage in list_drawn(cfg)]
        paths.append(save_frame(pd.concat(parts, ignore_index=True), cfg.runs / "drawn" / f"{name}_{culture}.parquet"))
    return paths


def score_drawn(cfg: Config, paths: Sequence[Path], stage: dict[str, CultureNorms], families: dict) -> pd.DataFrame:
    """Precision@5 of drawn lists, the mean over a cue's lists; what a short list lacks counts as wrong.

    Parameters
    ----------
    paths : sequence of Path
        From `draw_lists`.
    stage, families : dict
        From `pairs.load_run` and `pairs.map_families`.

    Returns
    -------
    DataFrame
        `model, culture, reading, stage, cue, family, precision`.
    """
    by, parts = ["model", "culture", "reading", "stage", "cue"], []
    for path in paths:
        lists = read_frame(path, made_by="04_lexical_alignment")
        (culture,) = lists["culture"].unique()
        scored = score_lists(
            lists[["model", "stage", "participant", "cue", "responses"]], stage[culture].norms, cfg.language_of(culture),
            ks=[DRAWN_K], min_count=cfg.profile.lexical.min_count, matching=cfg.profile.lexical.matching,
        )  # fmt: skip
        parts.append(scored.assign(culture=culture).groupby(by, sort=False, as_index=False)["precision"].mean())
    if not parts:
        return pd.DataFrame(columns=[*by, "family", "precision"])
    frame = pd.concat(parts, ignore_index=True).sort_values("reading", kind="stable", ignore_index=True)
    return frame.assign(family=[families[key] for key in zip(frame["culture"], frame["cue"], strict=True)])


def summarise_drawn(cfg: Config, scored: pd.DataFrame) -> pd.DataFrame:
    """Means over cues with intervals over families: `model, culture, reading, stage, value, low, high, n`."""
    return summarise(scored, ["model", "culture", "reading", "stage"], "precision", unit="family", **cfg.bootstrap)


def compare_drawn(cfg: Config, scored: pd.DataFrame) -> pd.DataFrame:
    """Paired differences between stages, cue by cue; `p_holm` is adjusted over cultures and comparisons of one model and reading."""
    pairs = [pair for pair in list_contrasts(cfg) if set(pair) <= set(list_drawn(cfg))]
    by = ["model", "culture", "reading"]
    table = compare(scored, by, "precision", over="stage", pairs=pairs, key="cue", unit="family", **cfg.bootstrap)
    table["p_holm"] = table.groupby(["model", "reading"])["p"].transform(lambda p: adjust_holm(p))
    return table


def list_drawn_metrics(cfg: Config, means: pd.DataFrame, gaps: pd.DataFrame) -> list[dict]:
    """Metric records of drawn lists: `drawn_precision_at_5_<reading>` and its differences (`method`: the comparison)."""
    records, language = [], {name: culture.language for name, culture in cfg.cultures.items()}
    for table, suffix in ((means, ""), (gaps.rename(columns={"comparison": "method"}), "_difference")):
        for reading, part in table.groupby("reading", sort=False):
            tagged = part.assign(language=part["culture"].map(language), decoding="sampled")
            records += list_records(tagged, f"drawn_precision_at_{DRAWN_K}_{reading}{suffix}", unit="share")
    return records


def _describe_drawn(cfg: Config, name: str, culture: str, stage: str, source: CultureNorms) -> dict:
    state, settings = find_state(cfg, culture, stage), cfg.profile.lexical
    weights = find_adapter(cfg, name, *state) / "adapter_model.safetensors" if state else None
    shown = {"norms": hash_file(source.path), "train": hash_settings({"cues": source.cues["train"]})}
    return {
        "version": [DRAWN_VERSION, SAMPLED_VERSION], "base": hash_base(cfg.models[name], seed=cfg.profile.seed), "stage": stage, "culture": culture,
        "adapter": hash_file(weights) if weights and weights.is_file() else None, "cues": hash_settings({"cues": source.cues["test"]}),
        "examples": {**shown, "count": settings.few_shot, "length": cfg.profile.sft.list_length} if stage == "few_shot" else None,
        "seed": cfg.profile.seed, "drawn": settings.drawn, "words": DRAWN_K, "max_new_tokens": settings.max_new_tokens,
        "language": cfg.language_of(culture).model_dump(include={"list_prompt", "list_lead", "separator", "remove_spaces"}),
    }  # fmt: skip
