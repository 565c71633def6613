# `make` lists the targets. Those that run something set up .venv first, from requirements.lock.
#
#   make demo PYTHON=python3.12         another Python (3.11 to 3.13); first `make clean`
#   make notebooks NOTEBOOKS="master"   only these, by name
#   make lab LAB="--no-browser"         options for JupyterLab
#   make bench BENCH="--only step"      options of tests/bench.py; --record keeps the numbers
#   make lock LOCK=--upgrade            newer versions, where pyproject.toml allows them; of both locks

PYTHON ?= python3
UV ?= uv
BIN := .venv/bin
READY := .venv/ready
SITE := .venv-site
QUIET := --quiet --progress-bar off --disable-pip-version-check --no-input
PIP := $(BIN)/python -m pip install $(QUIET)

.PHONY: help demo test lint lab bench notebooks readme site lock clean

help:
	@echo "make demo       a small study on built-in images: outputs/demo/report.html"
	@echo "make test       lint, unit tests and every notebook"
	@echo "make lab        JupyterLab, on this machine only"
	@echo "make bench      speed and memory on this machine, half an hour: outputs/bench/"
	@echo "make notebooks  execute every notebook again from its .py"
	@echo "make readme     README's tables and figure from outputs/published/"
	@echo "make site       notebooks, README and recorded reports as a site: outputs/site/"
	@echo "make lint       ruff, check and format"
	@echo "make lock       requirements.lock from pyproject.toml (needs uv)"
	@echo "make clean      remove .venv and caches; outputs/ stays"

demo: $(READY)
	$(BIN)/semisiam grid params/studies/demo.yaml
	$(BIN)/semisiam report params/studies/demo.yaml
	@echo "Open outputs/demo/report.html in a browser."

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Two processes, as many as CI has cores; a file's tests, or a notebook's cells, stay in one. A dead
# kernel would hold nbval for half an hour: hence a limit per cell.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadscope \
		--nbval-lax --nbval-current-env --nbval-cell-timeout=600 tests notebooks

lab: $(READY)
	$(BIN)/jupyter lab --ip=127.0.0.1 --LabApp.default_url=/lab/tree/notebooks $(LAB)

bench: $(READY)
	$(BIN)/python tests/bench.py $(BENCH)

notebooks: $(READY)
	$(BIN)/python tests/pairing.py build $(NOTEBOOKS)

readme: $(READY)
	$(BIN)/python tests/findings.py

# Opens without a network. Sphinx has an environment of its own, which nothing else needs.
site: $(READY) $(SITE)/ready
	$(BIN)/python tests/findings.py --reports
	$(SITE)/bin/python -m sphinx -q -W --keep-going -c .site . outputs/site
	@cp outputs/site/README.html outputs/site/index.html
	@echo "Open outputs/site/index.html in a browser."

$(SITE)/ready: .site/requirements.lock
	@rm -f $@
	@$(PYTHON) -m venv $(SITE)
	@$(SITE)/bin/python -m pip install $(QUIET) --require-hashes -r .site/requirements.lock
	@touch $@

lock:
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	$(UV) pip compile pyproject.toml --quiet --extra test --universal --python-version 3.11 \
		--generate-hashes --no-annotate --custom-compile-command "make lock" \
		-o requirements.lock $(LOCK)
	$(PYTHON) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*p["optional-dependencies"]["site"], sep="\n")' | \
	$(UV) pip compile - --quiet --universal --python-version 3.11 \
		--generate-hashes --no-annotate --custom-compile-command "make lock" \
		-o .site/requirements.lock $(LOCK)

clean:
	rm -rf .venv $(SITE) .pytest_cache .ruff_cache build lib/*.egg-info
	find lib tests notebooks -name __pycache__ -prune -exec rm -rf {} +
	find notebooks -name .ipynb_checkpoints -prune -exec rm -rf {} +

# The stamp goes first and comes back last: a set-up that failed is done again. The settings of the
# kernels keep what TensorFlow's C++ writes at its start out of notebooks: it goes to the terminal.
$(READY): requirements.lock pyproject.toml
	@rm -f $@
	@command -v $(PYTHON) >/dev/null || \
		{ echo "$(PYTHON) is not there: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "semisiam needs Python 3.11, 3.12 or 3.13: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up .venv from requirements.lock: about 3 GB, a few minutes, once."
	@$(PYTHON) -m venv .venv
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@mkdir -p .venv/etc/ipython
	@cp .ci/ipython_kernel_config.json .venv/etc/ipython/
	@touch $@
