"""Training from the command line, for launchers and batch queues: the same functions that notebooks 02 and 03 call."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from accelerate import PartialState

from align_utils.config.profiles import Config, load
from align_utils.config.settings import ConfigError
from align_utils.config.stages import PREFERENCE, list_trained
from align_utils.models.load import pick_device
from align_utils.norms.controls import ControlError, build_control
from align_utils.norms.split import CultureNorms, load_run
from align_utils.store.ledger import note_made
from align_utils.store.page import name_path
from align_utils.store.steps import MissingInput, StepError, read_frame
from align_utils.training.preference import train_critic_free, train_ppo
from align_utils.training.sft import count_passes, train_sft


def train_stage(
    cfg: Config, model: str, culture: str, stage: str, data: dict[str, CultureNorms], *, seed: int | None = None
) -> Path:
    """Train one adapter, unless it is stored already: `sft`; `ppo`, `grpo` or `rloo` (need `sft`); or a control of `controls.CONTROLS`.

    Parameters
    ----------
    data : dict
        From `pairs.load_run`.
    seed : int, optional
        Default the profile's.

    Returns
    -------
    Path
        Adapter folder.
    """
    if stage == "ppo":
        folder = train_ppo(cfg, model, culture, data[culture], seed=seed)
    elif stage in PREFERENCE:
        folder = train_critic_free(cfg, model, culture, data[culture], method=stage, seed=seed)
    else:
        taught = data[culture] if stage == "sft" else _build_control(cfg, culture, stage, data)
        folder = train_sft(cfg, model, culture, taught, stage=stage, seed=seed)
    return note_made(folder)


def list_taught(cfg: Config) -> list[str]:
    """Stages of notebook 02 in this run: SFT, and the controls that are trained like it."""
    return [name for name in list_trained(cfg) if name not in PREFERENCE]


def list_methods(cfg: Config) -> list[str]:
    """Stages of notebook 03 in this run: PPO, and the preference methods without a critic."""
    return [name for name in PREFERENCE if name in list_trained(cfg)]


def summarise_taught(cfg: Config, data: dict[str, CultureNorms]) -> pd.DataFrame:
    """What SFT and the controls of the profile are taught; with equal steps fewer cues mean more passes.

    Parameters
    ----------
    data : dict
        From `pairs.load_run`.

    Returns
    -------
    DataFrame
        `culture, stage, training cues, passes` (over them), `median list` (responses that a training list holds).
    """
    rows, sft = [], cfg.profile.sft
    for culture in data:
        for stage in list_trained(cfg):
            if stage in PREFERENCE:
                continue
            part = data[culture] if stage == "sft" else _build_control(cfg, culture, stage, data)
            cues = part.cues["train"]
            known = part.norms[part.norms["cue"].isin(set(cues))]
            median = known.groupby("cue").size().clip(upper=sft.list_length).median()
            rows.append([culture, stage, len(cues), count_passes(sft, len(cues)), median])
    return pd.DataFrame(rows, columns=["culture", "stage", "training cues", "passes", "median list"])


def _build_control(cfg: Config, culture: str, control: str, data: dict[str, CultureNorms]) -> CultureNorms:
    splits = read_frame(cfg.runs / "norms" / "splits.csv", made_by="01_norms")
    return build_control(cfg, data, splits, culture, control)


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m align_utils.training --profile P [--model M] [--culture C] [--stage S] [--seed N]`; default: all of the profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--profile", required=True, help="a file of notebooks/settings/profiles; notebook 01 must have run with it"
    )
    parser.add_argument("--model", action="append", help="default: every model of the profile")
    parser.add_argument("--culture", action="append", help="default: every culture of the profile")
    parser.add_argument("--stage", action="append", help="sft, ppo, rloo, grpo or a control; default: all of the profile")
    parser.add_argument("--seed", type=int, action="append", help="default: the profile's seeds")
    options = parser.parse_args(arguments)
    try:
        cfg = load(options.profile)
        known = {"model": list(cfg.models), "culture": list(cfg.cultures), "stage": list(list_trained(cfg))}
        for name, values in known.items():
            unknown = set(getattr(options, name) or []) - set(values)
            if unknown:
                raise ConfigError(f"--{name} {', '.join(sorted(unknown))}: profile '{options.profile}' has {', '.join(values)}")
    except ConfigError as error:
        parser.error(str(error))
    # Without being told of the processor, accelerate takes a launcher's processes on a machine without GPU for strangers.
    state = PartialState(cpu=pick_device()[0].type == "cpu")
    state.print(f"{state.num_processes} process{'es' if state.num_processes > 1 else ''} on {state.device.type}")
    try:
        data = load_run(cfg)
        for model in options.model or known["model"]:
            for culture in options.culture or known["culture"]:
                for stage in options.stage or known["stage"]:
                    for seed in options.seed or cfg.seeds:
                        folder = train_stage(cfg, model, culture, stage, data, seed=seed)
                        state.print(name_path(cfg, folder))
    except (StepError, MissingInput, ControlError) as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        print("\nInterrupted. Finished steps and checkpoints are stored; the same command goes on from there.", file=sys.stderr)
        sys.exit(130)
