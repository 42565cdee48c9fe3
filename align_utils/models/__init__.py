"""Models: loaded, with their adapters, asked token by token; the words they are shown."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["decode", "logprobs"],
    submod_attrs={
        "adapters": [
            "attach_adapter", "check_adapters", "complete_steps", "describe_step", "find_adapter", "load_states", "use_adapter",
        ],
        "export": ["export_model"],
        "load": ["count_weights", "describe_device", "hash_base", "load_base", "pick_device"],
        "prompts": ["build_list_prompt", "parse_list"],
    },
)  # fmt: skip
