"""Training from the command line, for launchers and batch queues: the same functions that notebooks 02 and 03 call."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from accelerate import PartialState

from align_utils import config, pairs
from align_utils.artifacts import MissingInput, name_path, read_frame
from align_utils.config import Config
from align_utils.controls import ControlError, build_control
from align_utils.failures import StepError
from align_utils.grpo import train_critic_free
from align_utils.models import pick_device
from align_utils.ppo import train_ppo
from align_utils.sft import count_passes, train_sft
from align_utils.stages import PREFERENCE, list_trained


def train_stage(cfg: Config, model: str, culture: str, stage: str, data: dict[str, dict], *, seed: int | None = None) -> Path:
    """Train one adapter, unless it is stored already: `sft`; `ppo`, `grpo` or `rloo` (need `sft`); or a control of `controls.CONTROLS`.

    Parameters
    ----------
    data : dict
        From `pairs.load_stage`.
    seed : int, optional
        Default the profile's.

    Returns
    -------
    Path
        Adapter folder.
    """
    if stage == "ppo":
        return train_ppo(cfg, model, culture, data[culture], seed=seed)
    if stage in PREFERENCE:
        return train_critic_free(cfg, model, culture, data[culture], method=stage, seed=seed)
    if stage == "sft":
        return train_sft(cfg, model, culture, data[culture], seed=seed)
    return train_sft(cfg, model, culture, _build_control(cfg, culture, stage, data), stage=stage, seed=seed)


def summarise_taught(cfg: Config, data: dict[str, dict]) -> pd.DataFrame:
    """What SFT and the controls of the profile are taught; with equal steps fewer cues mean more passes.

    Parameters
    ----------
    data : dict
        From `pairs.load_stage`.

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
            cues = part["cues"]["train"]
            known = part["norms"][part["norms"]["cue"].isin(set(cues))]
            median = known.groupby("cue").size().clip(upper=sft.list_length).median()
            rows.append([culture, stage, len(cues), count_passes(sft, len(cues)), median])
    return pd.DataFrame(rows, columns=["culture", "stage", "training cues", "passes", "median list"])


def _build_control(cfg: Config, culture: str, control: str, data: dict[str, dict]) -> dict:
    splits = read_frame(cfg.runs / "norms" / "splits.csv", made_by="01_norms")
    return build_control(cfg, data, splits, culture, control)


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m align_utils.training --profile P [--model M] [--culture C] [--stage S] [--seed N]`; default: all of the profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", required=True, help="a file of notebooks/profiles; notebook 01 must have run with it")
    parser.add_argument("--model", action="append", help="default: every model of the profile")
    parser.add_argument("--culture", action="append", help="default: every culture of the profile")
    parser.add_argument("--stage", action="append", help="sft, ppo, rloo, grpo or a control; default: all of the profile")
    parser.add_argument("--seed", type=int, action="append", help="default: the profile's seeds")
    options = parser.parse_args(arguments)
    try:
        cfg = config.load(options.profile)
        known = {"model": list(cfg.models), "culture": list(cfg.cultures), "stage": list(list_trained(cfg))}
        for name, values in known.items():
            unknown = set(getattr(options, name) or []) - set(values)
            if unknown:
                raise config.ConfigError(
                    f"--{name} {', '.join(sorted(unknown))}: profile '{options.profile}' has {', '.join(values)}"
                )
    except config.ConfigError as error:
        parser.error(str(error))
    # Without being told of the processor, accelerate takes a launcher's processes on a machine without GPU for strangers.
    state = PartialState(cpu=pick_device()[0].type == "cpu")
    state.print(f"{state.num_processes} process{'es' if state.num_processes > 1 else ''} on {state.device.type}")
    try:
        data = pairs.load_stage(cfg)
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


if __name__ == "__main__":
    main()
