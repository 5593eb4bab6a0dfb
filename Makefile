# Earshot. `make help` lists what there is; everything else is made when it is missing.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all:
LOWEST := .venv-lowest
LOWEST_READY := $(LOWEST)/.ready

# The Python of `make test-lowest`: 3.12, as Kaggle has it, where it is to be found; pyenv's shim may lead nowhere.
PYTHON_LOWEST = $(shell python3.12 -c 'import sys; print(sys.executable)' 2>/dev/null \
    || { version=$$(pyenv latest 3.12 2>/dev/null) && echo "$$(pyenv prefix $$version)/bin/python"; } \
    || echo $(PYTHON))

# What tells most of versions: the whole series in its notebooks, tables, decoders, models, formats, figures.
VERSIONED = $(patsubst %,tests/test_%.py,chain artifacts classic environment export inference label_table listeners machine optimise plots recording)

PRESET ?=
DATA ?=
RUN ?=
SEED ?=
SET ?=
FAST ?=
FORCE ?=
UNTIL ?=
FILE ?=
OUT ?=
RUNS ?=
BY ?=
OVERLAP ?=
MINUTES ?=
THRESHOLD ?=

# Words from the command line become options only where they were given.
OPTIONS = $(if $(PRESET),--preset "$(PRESET)") $(if $(DATA),--data "$(DATA)") $(if $(RUN),--run "$(RUN)") \
          $(if $(SEED),--seed $(SEED)) $(if $(SET),--set "$(SET)") $(if $(FAST),--fast) $(if $(FORCE),--force)

.PHONY: $(shell sed -nE 's/^([a-z-]+):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'
	@echo
	@echo '  run-all takes PRESET=name or file.yaml  DATA=folder  RUN=name  SEED=0  FAST=1  FORCE=1  UNTIL=02_clean'
	@echo '  and single settings: SET="train.epochs=20 clean.denoise=true"; of data, SET is the name of the set'
	@echo '  predict takes FILE="files, folders, patterns"  RUN=name  OUT=folder  OVERLAP=0.75  THRESHOLD=0.6'
	@echo '  PYTHON=python3.12 chooses the interpreter (3.11 to 3.13).'

run-all: $(READY)  ## the whole series, from recordings to submission.csv; starts again where something changed
	@$(BIN)/python -m helpers run-all $(OPTIONS) $(if $(UNTIL),--until $(UNTIL))

data: $(READY)  ## a public data set, verified, in data/: make data SET=esc50|esc10|urbansound8k|gtzan|speech_commands|fsdd
	@$(BIN)/python -m helpers data $(SET)

test: $(READY)  ## all tests, the notebooks on a tiny configuration included
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-layouts: $(READY)  ## the whole chain on every layout of data that is recognised (ten minutes or so)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m layouts tests/test_given.py

test-lowest: $(LOWEST_READY)  ## the series, and what depends on versions, on the lowest versions that requirements.txt allows
	@OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest --numprocesses 2 --dist loadfile $(VERSIONED)

test-kaggle: $(LOWEST_READY)  ## a session per notebook, inputs read-only, no network, on versions near Kaggle's
	@OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -m platforms tests/test_platforms.py -k "not colab"

test-colab: $(READY)  ## the same with Colab's folders and a Drive
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m platforms tests/test_platforms.py -k colab

lint: $(READY)  ## style of code and notebooks; notebooks must be stripped of outputs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/nbstripout --verify notebooks/*.ipynb

format: $(READY)  ## bring code and notebooks into the house style, strip the notebooks
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/nbstripout notebooks/*.ipynb

badges: $(READY)  ## put the address in pyproject.toml into the badges of README and notebooks
	@$(BIN)/python docs/badges.py
	@$(BIN)/nbstripout notebooks/*.ipynb

lab: $(READY)  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir notebooks

app: $(READY)  ## upload or record a sound and see what a run hears in it: make app RUN=demo
	@EARSHOT_RUN="$(RUN)" $(BIN)/python -m streamlit run app/streamlit_app.py

predict: $(READY)  ## what is heard in recordings, and when: make predict FILE="x.wav site/" OUT=folder; RUN=mine chooses the run
	@test -n "$(FILE)" || { echo 'Which recordings? make predict FILE="x.wav site/"'; exit 2; }
	@files="$(FILE)"; set -f; if [ -e "$$files" ]; then set -- "$$files"; else set -- $$files; fi; \
	    $(BIN)/python -m helpers predict "$$@" $(if $(RUN),--run "$(RUN)") $(if $(OUT),--out "$(OUT)") \
	    $(if $(OVERLAP),--overlap $(OVERLAP)) $(if $(THRESHOLD),--threshold $(THRESHOLD))

starter: $(READY)  ## make the network that comes with Earshot again, from a demo run (app/starter)
	@$(BIN)/python -m helpers run-all --preset demo
	@$(BIN)/python -m app.make_starter

export: $(READY)  ## a run's networks as one folder and zip, with ONNX and a loader: make export RUN=mine OUT=folder
	@$(BIN)/python -m helpers export --run "$(or $(RUN),demo)" $(if $(OUT),--out "$(OUT)")

verify: $(READY)  ## prove from a run's files alone that nothing crosses its folds: make verify RUN=demo
	@$(BIN)/python -m helpers verify --run "$(or $(RUN),demo)"

blend: $(READY)  ## several runs' answers as one, weighed by the folds: make blend RUNS="a a/svm other.csv" OUT=both BY=rank
	@test -n "$(RUNS)" || { echo 'Which runs? make blend RUNS="a a/svm other.csv"'; exit 2; }
	@$(BIN)/python -m helpers blend $(RUNS) $(if $(OUT),--out "$(OUT)") $(if $(BY),--by $(BY))

kaggle: $(READY)  ## what is uploaded to Kaggle: make kaggle RUN=mine KAGGLE=your-name ATTACH=competition OUT=folder
	@$(BIN)/python -m helpers kaggle $(if $(RUN),--run "$(RUN)") $(if $(KAGGLE),--user "$(KAGGLE)") \
	    $(if $(ATTACH),--attach "$(ATTACH)") $(if $(OUT),--out "$(OUT)")

check-submission: $(READY)  ## check any submission, also one made elsewhere: make check-submission FILE=x.csv DATA=folder
	@test -n "$(FILE)" || { echo 'Which file? make check-submission FILE=x.csv DATA=folder'; exit 2; }
	@$(BIN)/python -m helpers check "$(FILE)" $(if $(PRESET),--preset "$(PRESET)") $(if $(DATA),--data "$(DATA)") \
	    $(if $(SET),--set "$(SET)")

ablate: $(READY)  ## what each cleaning step is worth, with intervals; takes a run's PRESET, DATA and RUN
	@$(BIN)/python -m helpers worth cleaning $(filter-out --force,$(OPTIONS))

ablation: $(READY)  ## what each ingredient of the recipe is worth, with intervals; a training per row; takes PRESET, DATA, RUN
	@$(BIN)/python -m helpers worth recipe $(filter-out --force,$(OPTIONS)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(ONLY),--only $(ONLY))

search: $(READY)  ## better settings within MINUTES=60, tried on some folds and proved on others; takes PRESET, DATA, RUN, SET
	@$(BIN)/python -m helpers search $(OPTIONS) $(if $(MINUTES),--minutes $(MINUTES))

train: $(READY)  ## train a run's network, each by several processes with NPROC=2; takes PRESET, DATA, RUN, SET
	@$(BIN)/python -m torch.distributed.run --standalone --nproc-per-node $(or $(NPROC),1) -m -- helpers train $(filter-out --force,$(OPTIONS))

report: $(READY)  ## make a run's report.html again: make report RUN=demo
	@$(BIN)/python -m helpers report --run "$(or $(RUN),demo)"

bench: $(READY)  ## speed beside the plain per-file way, and growth with the data: outputs/bench; takes DATA, PRESET
	@$(BIN)/python -m benchmarks.bench $(if $(DATA),--data "$(DATA)") $(if $(PRESET),--preset "$(PRESET)")

lock: $(READY)  ## resolve requirements-dev.txt into requirements-lock.txt, for Python 3.11 to 3.13
	@$(BIN)/python -m pip install -q uv
	@echo '# Every package, pinned, for Python 3.11 to 3.13 (wheels only). Made by `make lock`; do not edit.' > .lock.tmp
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --only-binary :all: --no-annotate --no-header \
	    requirements-dev.txt >> .lock.tmp
	@mv .lock.tmp requirements-lock.txt
	@echo '# The lowest version of each package that requirements-dev.txt allows, for Python 3.11 and 3.12 (wheels only).' \
	    > .lock.tmp
	@echo '# Made by `make lock`; do not edit.' >> .lock.tmp
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --only-binary :all: --no-annotate --no-header \
	    --resolution lowest-direct requirements-dev.txt >> .lock.tmp
	@mv .lock.tmp requirements-lowest.txt

clean:  ## remove the runs and the demo data; .venv and your recordings stay
	@rm -rf outputs data/demo data/demo-[0-9]* data/demo-key.* data/demo-multilabel* .pytest_cache .ruff_cache .hypothesis

# torch for the CPU alone is taken where there is no NVIDIA GPU and a package index offers it; the lock names the other.
CPU_TORCH = $(shell sed -nE 's/^(torch|torchaudio|torchvision)==([^ ]+).*/\1==\2+cpu/p' requirements-lock.txt)
GPU_LIBRARIES = ^(nvidia|cuda|triton)

# .ready is written last, so an installation that broke off is done again.
$(READY): requirements-lock.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	    || { echo 'Earshot needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 …'; exit 2; }
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@if command -v nvidia-smi > /dev/null || ! $(PIP) --no-deps --dry-run $(CPU_TORCH) > /dev/null 2>&1; then \
	    echo 'Installing into $(VENV): about 6 GB, most of it torch and its GPU libraries (a few minutes, once) …'; \
	    $(PIP) -r requirements-lock.txt; \
	else \
	    echo 'Installing into $(VENV), with torch for the CPU alone: about 2.3 GB (a few minutes, once) …'; \
	    $(PIP) --no-deps $(CPU_TORCH) && \
	    grep -vE '$(GPU_LIBRARIES)' requirements-lock.txt > $(VENV)/lock.txt && $(PIP) -r $(VENV)/lock.txt; \
	fi
	@touch $@

$(LOWEST_READY): requirements-lowest.txt
	@$(PYTHON_LOWEST) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	    || { echo 'The lowest versions have wheels for Python 3.11 and 3.12 only: make PYTHON_LOWEST=python3.12 …'; exit 2; }
	@echo 'Installing the lowest versions into $(LOWEST) (a few minutes, once) …'
	@rm -rf $(LOWEST)
	@$(PYTHON_LOWEST) -m venv $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --only-binary :all: \
	    -r requirements-lowest.txt
	@touch $@
