# Two commands: `make quickstart` and `make test`. Both make the environment first (Python 3.11, Linux x86-64).
#
#   make quickstart [SEED=0] [OUT=runs/quickstart]     the main job
#   make test                                          all tests; `make test-fast` leaves the long ones out
#   make env                                           the environment alone, in $(VENV)
#
# The CPU training stack is a lock file installed without dependency resolution on top of a CPU build of
# torch (docs/install.md says why). PyTorch's own index has that build; a mirror can be named by TORCH_INDEX.

PYTHON ?= python3.11
VENV ?= .venv
SEED ?= 0
OUT ?= runs/quickstart
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH = torch==2.13.0+cpu
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
READY = $(VENV)/.ropd-ready

.PHONY: env quickstart test test-fast docs docs-pages lint clean

env: $(READY)

$(READY): requirements-cpu.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "the CPU training stack is locked for Python 3.11: make PYTHON=python3.11")'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q --retries 1 --timeout 60 --extra-index-url $(TORCH_INDEX) '$(TORCH)'
	$(PIP) install -q --no-deps -r requirements-cpu.lock
	$(PIP) install -q --no-deps -e .
	touch $@

quickstart: $(READY)
	$(VENV)/bin/ropd quickstart --seed $(SEED) --out $(OUT)

test: test-fast
	$(VENV)/bin/python -m pytest -m "slow and not training" -n 2 --dist worksteal
	$(VENV)/bin/python -m pytest -m training

test-fast: $(READY)
	$(VENV)/bin/python -m pytest -m "not training and not slow" -n 3 --dist worksteal

docs: $(READY)
	$(VENV)/bin/python -m mkdocs build --strict

docs-pages: $(READY)
	$(VENV)/bin/python docs/_generate.py

lint: $(READY)
	$(VENV)/bin/ruff check ropd_cli tests benchmarks

clean:
	rm -rf $(VENV) dist build site .pytest_cache
