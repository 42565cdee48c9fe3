# The companion's commands. `make` alone lists them.
PROFILE ?= cpu
PYTHON3 ?= python3
# Processes that share the tests, one thread each.
WORKERS ?= 2
# Results lie here, or in the folder that ALIGN_OUTPUT names.
RUN := $(if $(ALIGN_OUTPUT),$(ALIGN_OUTPUT)/)runs/$(PROFILE)
STEMS := $(basename $(notdir $(sort $(wildcard notebooks/[0-9][0-9]_*.ipynb))))
NUMBERS := $(foreach stem,$(STEMS),$(firstword $(subst _, ,$(stem))))
# "02_sft@01_norms" and so on: each notebook with the one before it.
LINKS := $(join $(addsuffix @,$(wordlist 2,99,$(STEMS))),$(wordlist 1,$(words $(wordlist 2,99,$(STEMS))),$(STEMS)))
previous = $(patsubst $(1)@%,$(RUN)/done/%,$(filter $(1)@%,$(LINKS)))
# Whatever lies how deep: a moved module or setting makes its notebooks stale too.
PACKAGE := $(shell find align_utils -name "*.py" -o -name "*.mplstyle")
SETTINGS := $(shell find notebooks/settings -name "*.yaml" -not -path "*/ablations/*")
export ALIGN_DATA ?= data/raw
DATA := $(shell find data -type f -not -path "data/raw/*")
# A profile on real files depends on them too, and on which folder ALIGN_DATA names: the file below changes with that alone.
ifneq ($(shell grep -s '^data: real' notebooks/settings/profiles/$(PROFILE).yaml),)
DATA += $(wildcard $(ALIGN_DATA)/swow/* $(ALIGN_DATA)/ratings/* $(ALIGN_DATA)/wvs/*)
ifneq ($(filter reproduce ablation $(NUMBERS),$(MAKECMDGOALS)),)
FOLDER := $(RUN)/done/data-folder
$(shell mkdir -p $(RUN)/done; echo '$(ALIGN_DATA)' | cmp -s - $(FOLDER) || echo '$(ALIGN_DATA)' > $(FOLDER))
endif
endif

# USE_ENV=1 takes the Python that is active (conda, Colab) as it is and installs nothing.
ifdef USE_ENV
PY := python
LINT_IMPORTS := lint-imports
READY :=
else
PY := .venv/bin/python
LINT_IMPORTS := .venv/bin/lint-imports
READY := .venv/ready
endif

.DEFAULT_GOAL := help
.SECONDEXPANSION:
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help reproduce plan summary smoke ablation test test-extra test-gpu bench lint export publish clean $(NUMBERS)

help: ## list the commands
	@echo "Commands (PROFILE=$(PROFILE); others: $(filter-out base,$(basename $(notdir $(wildcard notebooks/settings/profiles/*.yaml)))))"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12
	@echo "01 .. 06    one notebook and what it needs"
	@echo "Real files: make reproduce PROFILE=cpu_real ALIGN_DATA=<folder>.  Inside conda or Colab: add USE_ENV=1."

reproduce: plan $(addprefix $(RUN)/done/,$(STEMS)) summary ## run what is stale of all notebooks, then list figures and tables

plan: $(READY)
	@$(PY) -m align_utils.run --profile $(PROFILE) --plan

summary: $(READY)
	@$(PY) -m align_utils.run --profile $(PROFILE) --summary

smoke: ## the whole companion with a tiny random model: a look at the machinery
	@$(MAKE) --no-print-directory reproduce PROFILE=smoke

ablation: $(RUN)/done/$(firstword $(STEMS)) ## train and judge variants on validation cues (ABLATION=sft or another of notebooks/settings/ablations)
	$(PY) -m align_utils.training.ablation $(or $(ABLATION),sft) --profile $(PROFILE)

test: $(READY) ## all tests, the smoke run of every notebook among them
	@echo "Left to make test-extra (a package index) and make test-gpu (a CUDA device): what is marked extra or gpu."
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadgroup

test-extra: $(READY) ## the pinned unsloth read, Colab's set resolved, a real server asked; needs a package index (about 15 minutes)
ifndef USE_ENV
	$(PY) -m pip install --quiet -c constraints.txt -e ".[server-test]"
endif
	$(PY) -m pytest -m extra

test-gpu: $(READY) ## a few 4-bit steps in the paper's architectures; needs a CUDA device and the extra gpu
	$(PY) -m pytest -m gpu

bench: $(READY) ## races against named baselines, ratios in runs/bench.json (a few minutes a race)
	$(PY) tests/bench.py

lint: $(READY) ## style of code and notebooks, and which part of the package may import which
	$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(LINT_IMPORTS)

export: $(READY) ## merge the PPO adapters of PROFILE into plain model folders with a card (STAGE=sft for those of SFT)
	$(PY) -m align_utils.models.export --profile $(PROFILE) --stage $(or $(STAGE),ppo)

publish: $(READY) ## rewrite the numbers of README.md from figures/cpu, and of RESULTS.md from figures/cpu_real if it is there
	$(PY) -m align_utils.run.publish

clean: ## remove what runs made (the environment and the model cache stay)
	rm -rf runs $(filter-out figures/cpu,$(wildcard figures/*))

$(NUMBERS): $$(addprefix $(RUN)/done/,$$(filter $$@_%,$(STEMS)))

# Notebooks 02 and 03 show the tables of `make ablation`, where there are any.
$(RUN)/done/02_sft: $(wildcard $(RUN)/ablation/sft.csv)
$(RUN)/done/03_ppo: $(wildcard $(RUN)/ablation/ppo.csv)

# One rule runs every notebook: it needs the notebook, the package, the settings, the data and the stage before.
$(RUN)/done/%: notebooks/%.ipynb $(PACKAGE) $(SETTINGS) $(DATA) $(FOLDER) \
		$$(call previous,$$*) | $(READY)
	$(PY) -m align_utils.run $* --profile $(PROFILE)
	@mkdir -p $(@D) && touch $@

.venv/ready: constraints.txt pyproject.toml
	@echo "Setting up .venv (about five minutes; torch is the large part) ..."
	$(PYTHON3) -m venv .venv
	.venv/bin/python -m pip install --quiet -c constraints.txt -e ".[cpu,fonts,test]"
	@touch $@
