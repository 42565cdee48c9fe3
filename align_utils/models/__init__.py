"""Models: loaded, with their adapters, asked token by token; the words they are shown."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["decode", "logprobs"],
    submod_attrs={
        "adapters": ["complete_steps", "describe_step", "find_adapter", "load_states"],
        "export": ["export_model"],
        "load": ["attach_adapter", "describe_device", "hash_base", "load_base", "pick_device", "use_adapter"],
        "prompts": ["build_list_prompt", "parse_list"],
    },
)
