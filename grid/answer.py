"""One answerer of a run asked for its lists (04) or the survey (05): `python grid/answer.py lists --profile P --model M --culture C --stage S`."""

import argparse
import fcntl
import sys

import pandas as pd

from align_utils.config.profiles import Config, load
from align_utils.config.settings import ConfigError
from align_utils.lexical.drawn import describe_draw, plan_draws
from align_utils.lexical.lists import plan_lists
from align_utils.models.adapters import Plan, choose, complete_steps
from align_utils.norms.split import CultureNorms, load_run
from align_utils.store.steps import MissingInput, StepError
from align_utils.survey.answers import load_readings
from align_utils.survey.ask import ask_untuned, choose_answered, plan_numbers, plan_tuned, plan_untuned
from align_utils.survey.human import Human

KINDS = ("lists", "survey")


def read_people(cfg: Config) -> tuple[pd.DataFrame, Human]:
    """`survey.choose_answered` for jobs side by side: the first one reads the files, the others wait."""
    with (cfg.runs / "people.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return choose_answered(cfg)


def list_plans(cfg: Config, kind: str, model: str, people: dict[str, CultureNorms], items: pd.DataFrame) -> list[Plan]:
    """All steps of one kind: lists and drawn lists for the test cues, or answers to the survey's items."""
    if kind == "survey":
        return [plan(cfg, model, items) for plan in (plan_untuned, plan_tuned, plan_numbers)]
    draws = [describe_draw(cfg, extra=extra) for extra in (False, True)]
    return [plan_lists(cfg, model, people), *(plan_draws(cfg, model, people, draw) for draw in draws)]


def main() -> None:
    """Command line: who answers is the untuned model unless a culture and a stage name an adapter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    for name in ("profile", "model"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--culture")
    parser.add_argument("--stage")
    parser.add_argument("--seed", type=int, help="default: the profile's")
    options = parser.parse_args()
    try:
        cfg = load(options.profile)
        if bool(options.culture) != bool(options.stage):
            raise ConfigError("give --culture and --stage, which name an adapter, or neither for the untuned model")
        (model,) = choose(cfg, "model", [options.model])
        state = (options.culture, options.stage) if options.stage else None
        for kind, given in (("culture", options.culture), ("stage", options.stage)):
            choose(cfg, kind, [given] if given else [])
        seed = cfg.profile.seed if options.seed is None else options.seed
        people, items = load_run(cfg), pd.DataFrame()
        if options.kind == "survey":
            items, human = read_people(cfg)
            if state:
                load_readings(cfg, model)  # which the untuned model's job leaves
            else:
                ask_untuned(cfg, model, items, human.shares)
        for plan in list_plans(cfg, options.kind, model, people, items):
            complete_steps(cfg, model, plan.pick(state, seed))
    except (ConfigError, MissingInput, StepError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
