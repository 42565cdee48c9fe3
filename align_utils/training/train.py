"""The one way into training: a stage is found stored, or trained and stored. From notebooks, and from the command line for launchers."""

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pandas as pd
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from transformers import set_seed

from align_utils.config.profiles import Config, load
from align_utils.config.settings import ConfigError
from align_utils.config.stages import PREFERENCE, TAUGHT_HALVES, list_seeds, list_trained
from align_utils.models.adapters import choose
from align_utils.models.load import load_base, pick_device
from align_utils.norms.controls import ControlError, build_control
from align_utils.norms.split import CultureNorms, load_run
from align_utils.store.page import name_path
from align_utils.store.steps import MissingInput, StepError, TrainingError, find_step, note_made, save_frame
from align_utils.survey.answers import load_readings
from align_utils.survey.ask import load_people
from align_utils.survey.human import Human
from align_utils.training.job import Job, share_step
from align_utils.training.preference import prefer
from align_utils.training.sft import count_passes, fine_tune
from align_utils.training.taught import Lesson, list_lessons, teach


def train_stage(
    cfg: Config, model: str, culture: str, stage: str, people: dict[str, CultureNorms], *, seed: int | None = None,
    lesson: Lesson | None = None,
) -> Path:  # fmt: skip
    """Train one adapter, unless it is stored already; under a launcher every process calls it. Returns its folder, with `log.csv`.

    `stage` is `sft`; `ppo`, `grpo` or `rloo` (need `sft`); a control of the profile; or half of the survey's ceiling control
    (TAUGHT_HALVES), whose `lesson` is read where it is not given. `people` are from `norms.load_run`: test cues are not read. The log is of
    `sft.fine_tune`, `preference.prefer` or `taught.teach`.

    MissingInput: the SFT adapter that the stage goes on from is not there. TrainingError: an example is longer than
    `sft.max_tokens`; fewer training cues than an update asks for; a batch that cannot be dealt out to the processes; a loss,
    reward or weight that ceases to be finite; or memory or disk run out.
    """
    own = lesson or find_taught(cfg, model, culture, stage, people)
    job = Job(cfg, model, culture, stage, own, cfg.profile.seed if seed is None else seed)
    key = job.describe()
    if not find_step(job.folder, key):
        _train(job, key)
    return note_made(job.folder)


def teach_survey(cfg: Config, items: pd.DataFrame, people: Human) -> dict[tuple[str, str, str], Path]:
    """Train the survey's ceiling control for every model and culture of the profile, unless it is stored already.

    Each culture has two adapters, each taught its country's shares of half of the items with an order (topics balanced); `survey.ask_run`
    asks each the other half. `items, people` are from `survey.choose_answered`; `survey.choose_readings` must have run: it says how a question
    is read. Returns the adapters' folders by (model, culture, stage), with `log.csv` (`taught.teach`); raises what `train_stage` does.
    """
    return {
        (model, *cell): train_stage(cfg, model, *cell, {}, lesson=own)
        for model in cfg.models
        for cell, own in list_lessons(cfg, items, people.shares, load_readings(cfg, model)).items()
    }


def _train(job: Job, key: dict) -> None:
    train, rows, more = fine_tune, "device_batch", ""
    if job.stage in TAUGHT_HALVES:
        train, rows = teach, "batch"
    elif job.stage in PREFERENCE:
        train = prefer
        _check_preference(job)
        if job.section == "critic_free":
            more = f", or critic_free.cues (now {job.settings.cues}), whose lists are drawn together"
    now = getattr(job.settings, rows) or job.settings.episodes
    with share_step(job.folder, key, remedy=f"lower {job.section}.{rows} in the profile (now {now}){more}") as work:
        set_seed(job.seed)
        model, tokenizer = load_base(job.cfg.models[job.model], seed=job.seed)
        log = train(job, model, tokenizer, work)
        if PartialState().is_main_process:
            save_frame(log, work / "log.csv")


def _check_preference(job: Job) -> None:
    if any(map(parse_flag_from_env, ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"))):
        raise TrainingError(
            f"{job.stage} draws lists from whole models and cannot shard their weights: launch this stage with "
            "notebooks/settings/launch/ddp.yaml (`--stage`); sft and the controls run with fsdp.yaml and zero3.yaml"
        )
    name = "episodes" if job.stage == "ppo" else "cues"
    if len(job.cues) < (asked := getattr(job.settings, name)):  # trl would loop for ever
        there = f"{len(job.cues)} training cues, fewer than {job.section}.{name} = {asked}"
        raise TrainingError(f"culture '{job.culture}': {there}")


def find_taught(cfg: Config, model: str, culture: str, stage: str, people: dict[str, CultureNorms]) -> CultureNorms | Lesson:
    """What a stage is taught: the culture's norms, a control's wrong ones (`norms.controls.build_control`), or its lesson of the survey."""
    if stage == "sft" or stage in PREFERENCE:
        return people[culture]
    if stage in TAUGHT_HALVES:
        items, answered = load_people(cfg)
        return list_lessons(cfg, items, answered.shares, load_readings(cfg, model))[culture, stage]
    return build_control(cfg, people, culture, stage)


def train_stages(cfg: Config, people: dict[str, CultureNorms], stages: Sequence[str]) -> dict[tuple[str, str, str, int], Path]:
    """`train_stage` for every model, culture and seed of the profile: (model, culture, stage, seed) to the adapter's folder.

    The trainings of the profile's own seed come first; controls have no others (`stages.list_seeds`).
    """
    cells = product(cfg.seeds, cfg.models, cfg.cultures, stages)
    return {
        (*cell, stage, seed): train_stage(cfg, *cell, stage, people, seed=seed)
        for seed, *cell, stage in cells
        if seed in list_seeds(cfg, stage)
    }


def list_sft_stages(cfg: Config) -> list[str]:
    """Stages of notebook 02 in this run: SFT, and the controls that are trained like it."""
    return [name for name in list_trained(cfg) if name not in PREFERENCE]


def list_methods(cfg: Config) -> list[str]:
    """Stages of notebook 03 in this run: PPO, and the preference methods without a critic."""
    return [name for name in list_trained(cfg) if name in PREFERENCE]


def summarise_sft_stages(cfg: Config, people: dict[str, CultureNorms]) -> pd.DataFrame:
    """What SFT and the controls of the profile are taught; with equal steps fewer cues mean more passes.

    Returns `culture, stage, training cues, passes` (over them), `median list` (responses that a training list holds).
    """
    rows, sft = [], cfg.profile.sft
    for culture, stage in product(people, list_sft_stages(cfg)):
        own = find_taught(cfg, next(iter(cfg.models)), culture, stage, people)
        cues = own.cues["train"]
        lengths = own.norms[own.norms["cue"].isin(set(cues))].groupby("cue").size()
        rows.append([culture, stage, len(cues), count_passes(sft, len(cues)), lengths.clip(upper=sft.list_length).median()])
    return pd.DataFrame(rows, columns=["culture", "stage", "training cues", "passes", "median list"])


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m align_utils.training --profile P [--model M] [--culture C] [--stage S] [--seed N]`; default: all of the profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", required=True, help="a file of notebooks/settings/profiles; notebook 01 has run with it")
    stages = "sft, ppo, rloo, grpo or a control, or, if named, survey_taught_a or _b; "
    for kind, of in (("model", ""), ("culture", ""), ("stage", stages)):
        parser.add_argument(f"--{kind}", action="append", default=[], help=f"{of}default: all of the profile")
    parser.add_argument("--seed", type=int, action="append", help="default: the profile's seeds")
    options = parser.parse_args(arguments)
    try:
        cfg = load(options.profile)
        chosen = [choose(cfg, kind, getattr(options, kind)) for kind in ("model", "culture", "stage")]
    except ConfigError as error:
        parser.error(str(error))
    # Without being told of the processor, accelerate takes a launcher's processes on a machine without GPU for strangers.
    state = PartialState(cpu=pick_device()[0].type == "cpu")
    state.print(f"{state.num_processes} process{'es' if state.num_processes > 1 else ''} on {state.device.type}")
    try:
        people = load_run(cfg)
        for model, culture, stage in product(*chosen):
            for seed in options.seed or list_seeds(cfg, stage):
                state.print(name_path(cfg, train_stage(cfg, model, culture, stage, people, seed=seed)))
    except (StepError, MissingInput, ControlError) as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        print("\nInterrupted. Finished steps and checkpoints are stored; the same command goes on from there.", file=sys.stderr)
        sys.exit(130)
