"""Models: loaded, with their adapters, asked token by token."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adapters": ["find_adapter"],
        "load": ["describe_device"],
    },
)
