"""Models: loaded, with their adapters, asked token by token; the words they are shown."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adapters": ["load_states", "use_adapter"],
        "export": ["export_model"],
        "load": ["count_weights", "describe_device", "load_base"],
        "prompts": ["build_list_prompt", "parse_list"],
    },
)
