"""Train the stages of a profile from the command line: `python -m align_utils.training --profile P`."""

from align_utils.training.train import main

if __name__ == "__main__":
    main()
