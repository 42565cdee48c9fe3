"""A training in a process of its own that kills itself at a named point, as `kill -9` or the kernel would."""

import os
import signal
import sys
from multiprocessing import get_context
from pathlib import Path

# Read once by the server from which every process is forked: a start then takes no time. No thread may run in it.
HEAVY = [
    "datasets", "peft", "trl.trainer.sft_trainer", "trl.experimental.ppo", "transformers.models.gemma3.modeling_gemma3",
    "safetensors.torch", "pandas", "pyarrow.parquet", "torch.optim.adamw",
]  # fmt: skip


def start(target, *arguments) -> int:
    """Run a function of this module in a fresh process; its exit code (-9: killed)."""
    context = get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def train(root: Path, stages, point: str | None, journal: Path) -> None:
    """Train the stages of the tiny model and write a line for each step of the optimiser; die at the point, if one is named."""
    from align_utils import config
    from align_utils.norms import split
    from align_utils.training import train

    prepare(journal)
    if point:
        POINTS[point]()
    cfg = config.load("smoke", root=root)
    people = split.load_run(cfg)
    for stage in stages:
        # By its name in the module, which a point may have replaced.
        train.train_stage(cfg, "tiny", "us", stage, people)


def prepare(journal: Path) -> None:
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    torch.set_num_threads(1)

    def note(*_):
        with journal.open("a") as stream:
            stream.write("step\n")

    register_optimizer_step_post_hook(note)
    sys.stdout = sys.stderr = journal.with_suffix(".txt").open("a")


def die(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(where: str, nth: int = 1, *, after=None, when=lambda *_: True):
    """A point: the nth call of `module:Class.function` for which `when` holds; before it, or after it and what `after` spoils."""

    def arm() -> None:
        from importlib import import_module

        module, _, names = where.partition(":")
        owner, *path = [import_module(module), *names.split(".")]
        for name in path[:-1]:
            owner = getattr(owner, name)
        original, seen = getattr(owner, path[-1]), []

        def replaced(*args, **kwargs):
            seen.extend([1] if when(*args) else [])
            if not when(*args) or len(seen) < nth:
                return original(*args, **kwargs)
            if after:
                original(*args, **kwargs)
                after(*args)
            die()

        setattr(owner, path[-1], replaced)

    return arm


def kill_in_step(nth: int):
    """A point: the nth step of the optimiser, its gradients there and its weights not yet moved."""

    def arm() -> None:
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        seen = []
        register_optimizer_step_pre_hook(lambda *_: (seen.append(1), len(seen) == nth and die(), None)[-1])

    return arm


def limit_files() -> None:
    """A point that does not kill: from the second checkpoint's optimiser on, no file can grow beyond 20 kB."""
    import resource

    from transformers import Trainer

    original, seen = Trainer._save_optimizer_and_scheduler, []

    def limited(*args):
        seen.append(1)
        if len(seen) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        original(*args)

    Trainer._save_optimizer_and_scheduler = limited


def cut(path) -> None:
    path = Path(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def is_placed(_, target) -> bool:
    return Path(target).name.startswith("seed-")


TRAINER, PEFT, ADAPTER = "transformers.trainer:Trainer", "peft:PeftModel.save_pretrained", "adapter_model.safetensors"
SFT = {
    "in the first step": kill_at("trl.trainer.sft_trainer:SFTTrainer.training_step"),
    "in a step after a checkpoint": kill_in_step(4),
    "after the weights of a checkpoint": kill_at(f"{TRAINER}._save_optimizer_and_scheduler", 2),
    "half the weights of a checkpoint": kill_at(
        f"{TRAINER}.save_model", 2, after=lambda _, folder: cut(Path(folder) / ADAPTER)
    ),
    "before the state of a checkpoint": kill_at("transformers.trainer_callback:TrainerState.save_to_json", 2),
    "half the state of a checkpoint": kill_at(
        "transformers.trainer_callback:TrainerState.save_to_json", 2, after=lambda _, path: cut(path)
    ),
    "before a checkpoint is sealed": kill_at("align_utils.training.job:Seal.on_save", 2),
    "while an old checkpoint is deleted": kill_at("transformers.trainer:rotate_checkpoints", 3),
    "before the adapter is saved": kill_at(PEFT, 4),
    "half the adapter": kill_at(PEFT, 4, after=lambda _, folder: cut(folder / ADAPTER)),
    "before the step is in place": kill_at("pathlib:Path.replace", when=is_placed),
    "after the step is in place": kill_at("pathlib:Path.replace", after=lambda *_: None, when=is_placed),
}
PPO = {
    "between SFT and PPO": kill_at("align_utils.training.train:prefer"),
    "in the lists of an update": kill_at("trl.experimental.ppo.ppo_trainer:batch_generation", 2),
    "in a step of an update": kill_in_step(2),
    "half the best adapter": kill_at(PEFT, after=lambda _, folder, **__: cut(folder / ADAPTER)),
    "before the log": kill_at("align_utils.training.train:save_frame"),
    "before PPO is in place": kill_at("pathlib:Path.replace", when=is_placed),
}
POINTS = {**SFT, **PPO, "no room": limit_files, **{f"in step {number}": kill_in_step(number) for number in range(1, 7)}}
