# All tasks of this repository. `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
STUDY ?= quickstart
# pip is silent for minutes at a time: print a dot every ten seconds while it works.
DOTS = sh -c '(while sleep 10 && kill -0 $$$$; do printf .; done) 2>/dev/null & dots=$$!; \
	"$$@"; status=$$?; kill $$dots; exit $$status' dots

.DEFAULT_GOAL := help
.PHONY: help setup study test test-all lint lab bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(READY): pyproject.toml constraints.txt
	@echo "Setting up .venv (a few minutes, once)"
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; choose one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	@$(DOTS) $(BIN)/python -m pip install --progress-bar off -c constraints.txt torch
	@$(DOTS) $(BIN)/python -m pip install --progress-bar off -c constraints.txt -e '.[test]'
	@touch $(READY)

setup: $(READY)  ## install the package and its tools into .venv

study: $(READY)  ## run params/$(STUDY) to outputs/$(STUDY)/index.html (STUDY=quickstart)
	@$(BIN)/ohlora run params/$(STUDY)

test: $(READY)  ## run the quick tests
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "not slow and not browser and not gpu"

test-all: $(READY)  ## run all tests
	$(BIN)/python -m pytest -n 2 --dist loadscope

lint: $(READY)  ## check style, formatting, import layers, and that notebooks have no outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify notebooks/*.ipynb

lab: $(READY)  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks

bench: $(READY)  ## compare speed on this machine with a plain implementation's
	$(BIN)/python -m benchmarks

clean:  ## delete .venv and build files; outputs stay
	rm -rf .venv build *.egg-info
