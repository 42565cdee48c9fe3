"""Models x cultures x stages x seeds x ablations as jobs of Snakemake: `python grid/run.py notebooks/settings/grids/smoke.yaml [its options]`.

What is stored is known by the keys of the run's steps and is no job. The jobs compute what notebooks 02 to 05 would, in the same folders.
"""

import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal

import pandas as pd
import psutil
from answer import list_plans, read_people
from pydantic import Field

from align_utils.config.profiles import PACKAGE_ROOT, Config, check_settings, load, read_settings, read_yaml
from align_utils.config.settings import Ablation, ConfigError, Count, Strict
from align_utils.config.stages import PREFERENCE, TAUGHT_HALVES, list_seeds, list_trained
from align_utils.norms.controls import ControlError
from align_utils.norms.split import load_run
from align_utils.store.steps import MissingInput, StepError, find_step
from align_utils.training.ablation import find_table, list_cases, list_judged
from align_utils.training.job import Job
from align_utils.training.train import find_taught

HERE = Path(__file__).resolve().parent
# Snakemake's options where no profile of it says otherwise: this machine, its memory, one GPU at most, of which a process sees one.
LOCAL = ["--cores", "all", "--resources", "gpu=1", f"mem_mb={psutil.virtual_memory().total // 10**6}"]
DRY = {"-n", "--dry-run", "--dryrun"}


class Resources(Strict):
    """What a job of one kind asks for; with several GPUs accelerate shares a training among them."""

    gpus: int = Field(default=0, ge=0)
    cpus: Count = 1
    memory_gb: Count = 8
    minutes: Count = 60


class Grid(Strict):
    """A file of notebooks/settings/grids: a profile, and of each axis what is wanted of it (empty: all; of ablations: none)."""

    profile: str
    models: tuple[str, ...] = ()
    cultures: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    ablations: tuple[str, ...] = ()
    resources: dict[Literal["train", "lists", "survey", "ablation", "table"], Resources] = Field(default_factory=dict)


@dataclass
class Entry:
    """A job: its command, the jobs whose results it needs, and whether all that it makes is stored."""

    command: list[str]
    needs: list[str] = field(default_factory=list)
    stored: bool = False


def read_grid(path: Path) -> tuple[Grid, Config]:
    """A grid file with its profile; ConfigError where a key, a value or a name is not known."""
    grid = check_settings(Grid, read_yaml(path), path)
    cfg = load(grid.profile)
    known = {
        "models": [*cfg.models], "cultures": [*cfg.cultures], "stages": [*list_trained(cfg), *TAUGHT_HALVES], "seeds": cfg.seeds,
        "ablations": sorted(file.stem for file in (cfg.root / "notebooks/settings/ablations").glob("*.yaml")),
    }  # fmt: skip
    for axis, there in known.items():
        given = getattr(grid, axis)
        if unknown := [name for name in given if name not in there]:
            whose, more = f"profile '{grid.profile}' has", "; add it there, or 04 to 06 would not read it"
            if axis == "ablations":
                whose, more = "notebooks/settings/ablations has", ""
            listed = ", ".join(map(str, there))
            raise ConfigError(f"{path}: field '{axis}': {', '.join(map(str, unknown))}: {whose} {listed}{more}")
    wanted = {axis: getattr(grid, axis) or there for axis, there in known.items() if axis != "ablations"}
    if grid.ablations or set(PREFERENCE) & set(wanted["stages"]):  # which start from the SFT adapter
        wanted["stages"] = [*dict.fromkeys(["sft", *wanted["stages"]])]
    if grid.ablations:
        wanted["seeds"] = [*dict.fromkeys([cfg.profile.seed, *wanted["seeds"]])]
    return grid.model_copy(update=wanted), cfg


def expand(grid: Grid, cfg: Config) -> dict[str, Entry]:
    """Every job of a grid by its name, `<kind>/<model>/..`, those whose results are stored too; notebook 01 must have run."""
    people, (items, _) = load_run(cfg), read_people(cfg)
    jobs: dict[str, Entry] = {}

    def add(kind: str, place: Iterable, command: Iterable, *, needs: Iterable[str] = (), stored: Callable[[], bool]) -> None:
        needs = [name for name in needs if name in jobs]
        full = [*command, "--profile", cfg.profile.name]
        # What a stored step was made from may be about to change.
        ready = all(jobs[name].stored for name in needs)
        jobs["/".join([kind, *place])] = Entry([*map(str, full)], needs, ready and stored())

    def add_answers(kind: str, *, tuned: bool) -> None:
        for model in grid.models:
            steps = [step for plan in list_plans(cfg, kind, model, people, items) for step in plan.steps.values()]
            for state, seed in dict.fromkeys((step.state, step.seed) for step in steps):
                mine = [step for step in steps if (step.state, step.seed) == (state, seed)]
                place = (model, *(state or ["untuned"]), f"seed-{seed}")
                if bool(state) != tuned or (state and "/".join(["train", *place]) not in jobs):
                    continue
                who = ["--culture", state[0], "--stage", state[1]] if state else []
                add(
                    kind, place, [sys.executable, HERE / "answer.py", kind, "--model", model, *who, "--seed", seed],
                    needs=["/".join(["train", *place]), *([f"survey/{model}/{untuned}"] if tuned and kind == "survey" else [])],
                    stored=lambda mine=mine: all(find_step(step.folder, step.settings) for step in mine),
                )  # fmt: skip

    # It says by which reading adapters are asked, and the survey's own are taught.
    untuned = f"untuned/seed-{cfg.profile.seed}"
    add_answers("survey", tuned=False)
    several = grid.resources.get("train", Resources()).gpus
    shared = ["accelerate.commands.launch", "--config_file", PACKAGE_ROOT / "notebooks/settings/launch/ddp.yaml"]
    launch = [sys.executable, "-m", *([*shared, "--num_processes", several, "-m"] if several > 1 else [])]
    for model, seed, culture, stage in product(grid.models, grid.seeds, grid.cultures, grid.stages):
        if seed not in list_seeds(cfg, stage):
            continue

        def is_stored(cell=(model, culture, stage), seed=seed) -> bool:
            job = Job(cfg, *cell, find_taught(cfg, *cell, people), seed)
            return find_step(job.folder, job.describe())

        before = f"train/{model}/{culture}/sft/seed-{seed}" if stage in PREFERENCE else f"survey/{model}/{untuned}"
        add(
            "train", (model, culture, stage, f"seed-{seed}"),
            [*launch, "align_utils.training", "--model", model, "--culture", culture, "--stage", stage, "--seed", seed],
            needs=[before] if stage in (*PREFERENCE, *TAUGHT_HALVES) else [], stored=is_stored,
        )  # fmt: skip
    for kind, tuned in (("lists", False), ("lists", True), ("survey", True)):
        add_answers(kind, tuned=tuned)

    for name in grid.ablations:
        plan = read_settings(Ablation, name, root=cfg.root)
        cases = [case for case in list_cases(cfg, plan) if case.model in grid.models and case.culture in grid.cultures]
        judged = list_judged(cfg, cases, people)
        command = [sys.executable, "-m", "align_utils.training.ablation", name]
        places = {(case.model, case.culture, case.variant): case for case in cases}
        for (model, culture, variant), case in places.items():
            add(
                "ablation", (name, model, culture, variant),
                [*command, "--model", model, "--culture", culture, "--variant", variant],
                needs=[f"train/{model}/{culture}/sft/seed-{cfg.profile.seed}"], stored=lambda case=case, judged=judged: case in judged,
            )  # fmt: skip
        # Variants that end at the same time write the table without each other: once more when all are there.
        everything = [part for axis in ("model", "culture") for one in getattr(grid, f"{axis}s") for part in (f"--{axis}", one)]
        add(
            "table", [name], [*command, *everything], needs=["/".join(["ablation", name, *place]) for place in places],
            stored=lambda name=name, places=places: set(places) <= _read_table(cfg, name),
        )  # fmt: skip
    return jobs


def _read_table(cfg: Config, name: str) -> set[tuple]:
    path, who = find_table(cfg, name), ["model", "culture", "variant"]
    return set(pd.read_csv(path)[who].itertuples(index=False, name=None)) if path.is_file() else set()


def write_plan(jobs: dict[str, Entry], grid: Grid, cfg: Config, folder: Path) -> dict[str, dict]:
    """What is not stored, as the Snakefile reads it: `plan.json` in `folder`."""
    paths = [str(PACKAGE_ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    places = {"ALIGN_ROOT": cfg.root, "ALIGN_OUTPUT": cfg.output, "PYTHONPATH": os.pathsep.join(paths)}
    places |= {} if cfg.is_sample else {"ALIGN_DATA": cfg.data_dir}
    shared = ["env", *(f"{name}={place}" for name, place in places.items())]
    plan = {}
    for name, job in jobs.items():
        if not job.stored:
            asked = grid.resources.get(name.split("/")[0], Resources()).model_dump()
            plan[name] = {
                "command": shlex.join([*shared, *job.command]), "needs": [need for need in job.needs if not jobs[need].stored],
                "memory_mb": asked.pop("memory_gb") * 1000, **asked,
            }  # fmt: skip
    (folder / "plan.json").write_text(json.dumps(plan, indent=1, ensure_ascii=False), encoding="utf-8")
    return plan


def report(plan: dict[str, dict], folder: Path) -> str:
    """What became of the jobs that were planned: how many are done, which failed and how their logs end, how many wait for those."""
    done = [name for name in plan if (folder / "done" / name).exists()]
    logs = {name: folder / "logs" / f"{name}.log" for name in plan if name not in done}
    failed = {name: log for name, log in logs.items() if log.is_file()}
    left = f"{len(failed)} failed or were broken off, {len(logs) - len(failed)} did not begin"
    lines = [f"{len(done)} of {len(plan)} jobs are done, {left}."]
    for name, log in failed.items():
        said = [line.strip() for line in re.split(r"[\r\n]", log.read_text(encoding="utf-8", errors="replace")) if line.strip()]
        lines.append(f"  {name}: {said[-1] if said else 'no word'}\n    {log}")
    return "\n".join([*lines, *(["The same command does what is left."] if logs else [])])


def main(arguments: list[str]) -> int:
    """Plan what is not stored, have Snakemake do it, list what failed; the exit code is Snakemake's."""
    if not arguments or not arguments[0].endswith(".yaml"):
        print("python grid/run.py notebooks/settings/grids/<name>.yaml [options of Snakemake]", file=sys.stderr)
        return 2
    path, options = Path(arguments[0]), arguments[1:]
    try:
        grid, cfg = read_grid(path)
        folder = cfg.runs / "grid" / path.stem
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"{path}: this grid runs already in {folder}") from None
            return _run(path, grid, cfg, folder, options)
    except (ConfigError, MissingInput, StepError, ControlError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Finished steps are stored; the same command does what is left.", file=sys.stderr)
        return 130


def _run(path: Path, grid: Grid, cfg: Config, folder: Path, options: list[str]) -> int:
    jobs = expand(grid, cfg)
    plan = write_plan(jobs, grid, cfg, folder)
    print(f"{path.stem}: {len(jobs)} jobs, {len(jobs) - len(plan)} stored, {len(plan)} to do", flush=True)
    code, dry = 0, DRY & set(options)
    if plan:
        if not dry:
            shutil.rmtree(folder / "done", ignore_errors=True)
            for name in plan:
                (folder / "logs" / f"{name}.log").unlink(missing_ok=True)
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(HERE / "Snakefile"), "--directory", str(folder)]
        command += ["--nolock", "--keep-going", "--rerun-incomplete", *([] if "--profile" in options else LOCAL), *options]
        code = subprocess.run(command, check=False).returncode
        if not dry:
            print(report(plan, folder))
    if not code and not dry:
        print(f"All of {path.stem} is stored: `make reproduce PROFILE={grid.profile}` reads it.")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
