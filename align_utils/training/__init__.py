"""Supervised fine-tuning, preference optimisation, and how both are watched."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "ablation": ["find_table", "read_ablation_table"],
        "preference": [],
        "reward": ["show_rewards"],
        "sft": [
            "build_examples",
            "count_passes",
        ],
        "tables": [
            "read_logs",
            "compare_losses",
            "compare_methods",
            "sum_times",
            "summarise_losses",
            "summarise_parts",
            "summarise_rewards",
        ],
        "train": ["list_taught", "list_methods", "summarise_taught", "train_stage"],
    },
)
