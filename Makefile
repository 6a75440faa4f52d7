# `make` lists what can be made. Needs Python >= 3.11 and nothing else: each target builds .venv,
# once, from requirements.txt. Another Python: `make book PYTHON=python3.12`.
PYTHON ?= python3
NB ?=
RUN ?=
FILE ?=
K ?=
WEIGHTS ?=
MODEL ?=
DATA ?=

# Chapters that train: their digits differ from one kind of CPU to the next after many steps.
# Every other notebook must print the same on another instruction set, and is tested so.
TRAINING := 07_training 08_debugging 10_distillation 12_attention_maps

# The shell gets the folder's path as a variable, so that a space, a quote, $ or # in it is harmless.
export BOOK_ROOT := $(CURDIR)
BIN := "$$BOOK_ROOT/.venv/bin"
NOTEBOOKS := $(wildcard book/*.ipynb)
RECORDED := $(patsubst vitlib/runs/train_%.py,%,$(wildcard vitlib/runs/train_*.py)) \
	$(patsubst vitlib/runs/record_%.py,%,$(wildcard vitlib/runs/record_*.py))
DETERMINISTIC := $(filter-out $(TRAINING:%=book/%.ipynb),$(NOTEBOOKS))
NBVAL := $(BIN)/python -m pytest --rootdir . -ra -p no:cacheprovider \
	-n 2 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout 900

.DEFAULT_GOAL := help
.PHONY: help book test test-older-cpu lab serve chapter execute record drawing set-repo lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## */\t/' | expand -t 16

book: .venv/installed  ## build the book into _build/html, from the outputs stored in the notebooks
	$(BIN)/jupyter-book build . -W --keep-going --all -q
	@echo "Open $$BOOK_ROOT/_build/html/index.html in a browser, or run: make serve"

# Two workers share the cores: with two threads each they would wait for one another.
test test-older-cpu: export OMP_NUM_THREADS := 1
ifeq ($(FILE),)
test: .venv/installed  ## every check, once: ruff, mypy, imports, tests, every notebook; or FILE=... K=...
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations 15
	@echo "--- every notebook, in another folder"
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && cp $(NOTEBOOKS) "$$folder" && \
		cd "$$folder" && $(NBVAL) .
else
test: .venv/installed
	$(BIN)/python -m pytest $(FILE) $(if $(K),-k "$(K)")
endif

test-older-cpu: .venv/installed  ## the notebooks once more, as on a CPU without AVX-512
	@echo "--- all notebooks but those that train: $(TRAINING)"
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && cp $(DETERMINISTIC) "$$folder" && \
		cd "$$folder" && ATEN_CPU_CAPABILITY=avx2 $(NBVAL) .

lab: .venv/installed  ## open the notebooks in JupyterLab
	cd book && $(BIN)/jupyter lab

serve: book  ## build the book and serve it at http://localhost:8000
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _build/html

chapter: .venv/installed  ## run one notebook, build its page and open it: NB=book/03_attention.ipynb
	@test -f "$(NB)" || { echo "NB=... must be one of: $(NOTEBOOKS)"; exit 2; }
	@grep -q "$(NB:.ipynb=)$$" _toc.yml || { echo "_toc.yml has no line for $(NB:.ipynb=)"; exit 2; }
	$(BIN)/python book/_ext/notebooks.py execute "$(NB)"
	$(BIN)/jupyter-book build . -W --keep-going -q
	@$(BIN)/python -m webbrowser "file://$$BOOK_ROOT/_build/html/$(NB:.ipynb=.html)" > /dev/null || true
	@echo "The page is $$BOOK_ROOT/_build/html/$(NB:.ipynb=.html)"

execute: .venv/installed  ## run all notebooks in place and store their outputs; one: NB=book/intro.ipynb
	$(BIN)/python book/_ext/notebooks.py execute $(NB)

record: .venv/installed  ## redo a recorded experiment of vitlib/runs, some minutes: RUN=distillation; RUN=photos WEIGHTS=...
	@test -n "$(filter $(RUN),$(RECORDED))" || { echo "RUN=... must be one of: $(RECORDED)"; exit 2; }
	$(BIN)/python -m $(subst /,.,$(basename $(wildcard vitlib/runs/train_$(RUN).py vitlib/runs/record_$(RUN).py))) $(if $(WEIGHTS),"$(WEIGHTS)") $(if $(MODEL),--model "$(MODEL)") $(if $(DATA),--data "$(DATA)")

drawing: .venv/installed  ## draw the imports of vitlib anew, in CONTRIBUTING.md
	$(BIN)/python tests/import_drawing.py

set-repo: .venv/installed  ## write the repository's address everywhere: URL=https://github.com/…/…
	@$(BIN)/python book/_ext/notebooks.py set-repo "$(URL)"

lock:  ## write requirements.txt anew, from a fresh environment with pyproject.toml's extras
	rm -rf _build/lock && $(PYTHON) -m venv _build/lock
	_build/lock/bin/python -m pip install --quiet torch==2.13.0 --editable '.[book,test]'
	{ sed '/^[^#]/,$$d' requirements.txt; \
		_build/lock/bin/python -m pip freeze --all --exclude pip --exclude-editable | sed 's/+cpu$$//'; } > _build/lock/new
	mv _build/lock/new requirements.txt && rm -rf _build/lock

clean:  ## remove what was built, the environment too
	rm -rf .venv _build dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, and $(PYTHON) is " + sys.version.split()[0] + ". If you have a newer one: make PYTHON=...")'
	@echo "Making .venv: this happens once and takes some minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
