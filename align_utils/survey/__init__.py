"""The World Values Survey: items, people's answers, models' answers, and the distances between them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "aligned", "answers", "distances", "human", "items", "map", "panels", "paper", "sentences", "servers", "shifts",
        "styles", "verdicts",
    ],
    submod_attrs={
        "items": ["list_questions", "pick_item"],
        "answers": ["average_orders", "describe_readouts", "load_answers", "measure_order_bias"],
        "ask": ["ask_run", "choose_answered", "choose_readings", "load_people"],
        "distances": ["measure_distances"],
        "shifts": ["summarise_shifts"],
        "panels": ["list_item", "list_six"],
        "paper": ["compare_with_paper"],
        "values": ["load_values"],
    },
)  # fmt: skip
