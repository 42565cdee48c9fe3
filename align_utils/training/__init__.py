"""Supervised fine-tuning, preference optimisation, and how both are watched."""

import os

import lazy_loader

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # trl's PPO says at import that it is experimental
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["ablation", "sentences", "surprisal", "train"],
    submod_attrs={
        "ablation": ["read_ablation_table"],
        "sft": ["show_examples"],
        "surprisal": ["answer_cues", "record_losses", "trace_surprisal"],
        "tables": [
            "compare_methods", "read_logs", "record_rewards", "sum_times", "summarise_losses", "summarise_parts",
        ],
        "train": ["list_methods", "list_sft_stages", "summarise_sft_stages", "teach_survey", "train_stages"],
    },
)  # fmt: skip
