"""What a run is: profiles, models, cultures, languages and stages, read from YAML and checked."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "profiles": ["Config", "ConfigError", "PACKAGE_ROOT", "describe", "load"],
        "stages": ["PREFERENCE", "list_contrasts", "list_trained"],
    },
)
