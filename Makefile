# The companion's commands. `make` alone lists them.
PROFILE ?= cpu
PYTHON3 ?= python3
# Processes that share the tests, one thread each.
WORKERS ?= 2
# Both folders are resolved once, against this one, `~` too; every command gets them as they are, make itself goes by `link`.
quote = '$(subst ','\'',$(1))'
resolve = $(shell p=$(call quote,$(1)); case "$$p" in ('~'|'~/'*) p=$$HOME$$(printf %s "$$p" | cut -c2-);; (/*) ;; (*) p=$$PWD/$$p;; esac; printf %s "$$p")
# A folder whose name make would take apart (a space, an apostrophe, Chinese) gets a second name without.
link = $(shell export LC_ALL=C; p=$(call quote,$(1)); case "$$p" in (*[!A-Za-z0-9/._-]*) l=/tmp/align-$$(id -u)-$$(printf %s "$$p" | cksum | tr ' ' -); mkdir -p "$$p" && ln -sfn "$$p" "$$l" && p=$$l;; esac; printf %s "$$p")
override ALIGN_OUTPUT := $(if $(ALIGN_OUTPUT),$(call resolve,$(ALIGN_OUTPUT)))
override ALIGN_DATA := $(call resolve,$(or $(ALIGN_DATA),data/raw))
export ALIGN_OUTPUT ALIGN_DATA
PROFILES := $(filter-out base,$(basename $(notdir $(wildcard notebooks/settings/profiles/*.yaml))))
$(if $(filter $(PROFILE),$(PROFILES)),,$(error PROFILE=$(PROFILE) is none that can be run; there are: $(PROFILES)))
# Results lie here, or in the folder that ALIGN_OUTPUT names.
RUN := $(if $(ALIGN_OUTPUT),$(call link,$(ALIGN_OUTPUT))/)runs/$(PROFILE)
STEMS := $(basename $(notdir $(sort $(wildcard notebooks/[0-9][0-9]_*.ipynb))))
EXTRA := $(basename $(notdir $(sort $(wildcard notebooks/appendix/A[0-9]_*.ipynb))))
NUMBERS := $(foreach stem,$(STEMS) $(EXTRA),$(firstword $(subst _, ,$(stem))))
FIRST := $(RUN)/done/$(firstword $(STEMS))
# A profile on real files depends on them, and on which folder ALIGN_DATA names: the file below is written when that has changed.
# The profile's own word counts, or that of the nearest one that it extends.
ifeq ($(shell p=$(PROFILE); while [ -n "$$p" ]; do f=notebooks/settings/profiles/$$p.yaml; d=$$(awk '$$1 == "data:" {print $$2; exit}' $$f 2>/dev/null); \
	[ -z "$$d" ] || break; p=$$(awk '$$1 == "extends:" {print $$2; exit}' $$f 2>/dev/null); done; echo $$d),real)
REAL := $(foreach part,swow ratings wvs,$(call quote,$(ALIGN_DATA)/$(part)))
FOLDER := $(RUN)/done/data-folder
$(FOLDER): $(shell p=$(call quote,$(ALIGN_DATA)); echo "$$p" | cmp -s - $(FOLDER) || echo changed)
	@mkdir -p $(@D) && p=$(call quote,$(ALIGN_DATA)) && echo "$$p" > $@
endif
# What every notebook depends on makes the first one stale, which makes the others so: whatever lies how deep and is called what.
CHANGED := $(if $(wildcard $(FIRST)),$(shell \
	find align_utils notebooks/settings data -type f -newer $(FIRST) ! -path 'data/raw/*' ! -path '*/ablations/*' ! -name '*.pyc' ! -name '.*' | head -1; \
	$(if $(REAL),find -L $(REAL) -newer $(FIRST) 2>/dev/null | head -1)))

# USE_ENV=1 takes the Python that is active (conda, Colab) as it is and installs nothing.
ifdef USE_ENV
PY := python
LINT_IMPORTS := lint-imports
READY :=
else
# Ignore what a person has set for another Python; where pip's index is, it may say.
unexport PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_ROOT PIP_CONSTRAINT PIP_REQUIREMENT PIP_NO_DEPS PIP_DRY_RUN
export PIP_USER := 0
PY := .venv/bin/python
LINT_IMPORTS := .venv/bin/lint-imports
READY := .venv/ready
endif
export PYTHONUTF8 := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help doctor reproduce appendix plan summary smoke ablation grid test test-extra test-gpu site test-site bench lint export publish address clean changed $(NUMBERS)

help: ## list the commands
	@echo "Commands (PROFILE=$(PROFILE); others: $(PROFILES))"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s%s\n", $$1, $$2 }' Makefile
	@echo "01 .. 06    one notebook and what it needs; A1 .. A6 one of the appendix"
	@echo "Real files: make reproduce PROFILE=cpu_real ALIGN_DATA=<folder>.  Inside conda or Colab: add USE_ENV=1."

# Before five minutes of setting up it is told what would not work anyway.
reproduce: $(if $(wildcard .venv/ready)$(USE_ENV),,doctor) plan $(addprefix $(RUN)/done/,$(STEMS)) summary ## run what is stale of all notebooks, then list figures and tables

appendix: $(addprefix $(RUN)/done/,$(EXTRA)) summary ## what a reviewer asks for: the notebooks of notebooks/appendix, after the main line

doctor: ## what works on this machine, how long it takes, what is missing; fails where PROFILE cannot run
	@python=$(if $(USE_ENV)$(wildcard .venv/ready),$(PY),$(PYTHON3)); command -v $$python >/dev/null || { echo "no   Python  no $$python here: install" \
		"Python 3.11 to 3.14, or add PYTHON3=<where it is>" >&2; exit 1; }; $$python align_utils/run/doctor.py --profile $(PROFILE)

plan: $(READY)
	@$(PY) align_utils/run/doctor.py --profile $(PROFILE) --brief

summary: $(READY)
	@$(PY) -m align_utils.run --profile $(PROFILE) --summary

smoke: ## the whole companion with a tiny random model: a look at the machinery
	@$(MAKE) --no-print-directory reproduce appendix PROFILE=smoke

ablation: $(RUN)/done/$(firstword $(STEMS)) ## train and judge variants on validation cues (ABLATION=sft or another of notebooks/settings/ablations)
	$(PY) -m align_utils.training.ablation $(or $(ABLATION),sft) --profile $(PROFILE)

grid: $(READY) ## models x cultures x stages x seeds as jobs (GRID=notebooks/settings/grids/<name>.yaml; docs/clusters.md)
	@[ -f '$(GRID)' ] || { echo "GRID names no file ('$(GRID)'); there are: $(wildcard notebooks/settings/grids/*.yaml)" >&2; exit 1; }
ifndef USE_ENV
	@$(PY) -c "import snakemake" 2> /dev/null || $(PY) -m pip install --quiet -c constraints.txt -e ".[grid]"
endif
	@$(MAKE) --no-print-directory 01 PROFILE="$$(awk '$$1 == "profile:" {print $$2; exit}' '$(GRID)')"
	$(PY) grid/run.py '$(GRID)' $(SNAKEMAKE)

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

# Pages of what a run's notebooks showed; nothing is run again.
site: $(READY) ## the executed notebooks of PROFILE as a web site: runs/<profile>/site/index.html
ifndef USE_ENV
	$(PY) -m pip install --quiet -c constraints.txt -e ".[site]"
endif
	$(PY) site/build.py --profile $(PROFILE) $(STRICT)

test-site: STRICT := --strict
test-site: site ## that site in a real browser (Debian's chromium, or playwright's)
ifndef USE_ENV
	$(PY) -m pip install --quiet -c constraints.txt -e ".[site-test]"
endif
	@command -v npm > /dev/null && npm install --prefix tests/site --no-package-lock --no-audit --no-fund --silent || echo "Without npm and axe-core accessibility is not tested."
	SITE=$(RUN)/site $(PY) -m pytest -m browser tests/site

bench: $(READY) ## races against named baselines, ratios in runs/bench.json (a few minutes a race)
	$(PY) tests/bench.py

lint: $(READY) ## style of code and notebooks, and which part of the package may import which
	$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(LINT_IMPORTS)

export: $(READY) ## merge the PPO adapters of PROFILE into plain model folders with a card (STAGE=sft for those of SFT)
	$(PY) -m align_utils.models.export --profile $(PROFILE) --stage $(or $(STAGE),ppo)

publish: $(READY) ## rewrite the numbers of README.md from figures/cpu, and of RESULTS.md and docs/real-norms.md from figures/cpu_real if it is there
	$(PY) -m align_utils.run.publish

address: $(READY) ## write where the project is published into badges and setup cells, URL=https://github.com/<owner>/<name>
	$(PY) -m align_utils.run.colab $(call quote,$(URL))

clean: ## remove what runs made (the environment and the model cache stay)
	rm -rf runs $(filter-out figures/cpu,$(wildcard figures/*))

# make 3.81 follows no pattern rule that leads to itself: every notebook has its own line here, with the one before it.
previous :=
$(foreach stem,$(STEMS),\
	$(eval $(firstword $(subst _, ,$(stem))): $(RUN)/done/$(stem))\
	$(eval $(RUN)/done/$(stem): notebooks/$(stem).ipynb $(previous) | $(READY))\
	$(eval previous := $(RUN)/done/$(stem)))
$(foreach stem,$(EXTRA),\
	$(eval $(firstword $(subst _, ,$(stem))): $(RUN)/done/$(stem))\
	$(eval $(RUN)/done/$(stem): notebooks/appendix/$(stem).ipynb $(previous) | $(READY))\
	$(eval previous := $(RUN)/done/$(stem)))
$(FIRST): $(FOLDER) $(if $(CHANGED),changed)

# The appendices of 02 and 03 show the tables of `make ablation`, where there are any.
$(RUN)/done/A2_sft: $(wildcard $(RUN)/ablation/sft.csv)
$(RUN)/done/A3_ppo: $(wildcard $(RUN)/ablation/ppo.csv)

$(addprefix $(RUN)/done/,$(STEMS) $(EXTRA)):
	$(PY) -m align_utils.run $(@F) --profile $(PROFILE)
	@mkdir -p $(@D) && touch $@

# An environment of another Python than PYTHON3, or without pip, is made anew; where no PYTHON3 is given, any that the pins allow stays.
.venv/ready: constraints.txt pyproject.toml
	@say='import sys; print("%d.%d" % sys.version_info[:2])'; new=$$($(PYTHON3) -c "$$say"); old=$$(.venv/bin/python -c "import pip; $$say" 2>/dev/null); \
	case "$(origin PYTHON3) $$old" in ('file 3.1'[1-4]) new=$$old;; esac; \
	case "$$new" in (3.1[1-4]) ;; (*) echo "$(PYTHON3) is Python $${new:-of no version}, expected 3.11 to 3.14: add PYTHON3=python3.11 or whichever of these is" \
		"installed, or in an active conda environment USE_ENV=1" >&2; exit 1;; esac; \
	[ -w . ] || { echo "This folder cannot be written to: copy it, or activate an environment and add USE_ENV=1 ALIGN_OUTPUT=<a folder of your own>" >&2; exit 1; }; \
	[ "$$new" = "$$old" ] || { echo "Setting up .venv (about five minutes; torch is the large part) ..."; rm -rf .venv && $(PYTHON3) -m venv .venv; }
	.venv/bin/python -m pip install --quiet -c constraints.txt -e ".[cpu,fonts,test]"
	@touch $@
