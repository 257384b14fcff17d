# Two commands: `make quickstart` and `make test`. Both make the environment first (Python 3.11, Linux x86-64).
#
#   make quickstart [SEED=0] [OUT=runs/quickstart]     the main job
#   make test          the checks, and all tests but the long ones: at most 15 minutes on 2 cores
#   make test-fast     of these what takes seconds each
#   make test-all      the checks and all tests: campaigns of kills, dying judges in verl, weak judges
#   make lint          the checks alone: ruff's rules and format, and mypy
#   make env           the environment alone, in $(VENV)
#   make gpu-lock      requirements-gpu.lock anew: the versions that the extra for GPUs takes (needs uv: pip install uv)
#
# The CPU training stack is a lock file installed without dependency resolution on top of a CPU build of
# torch (docs/install.md says why). PyTorch's own index has that build; a mirror can be named by TORCH_INDEX.

PYTHON ?= python3.11
VENV ?= .venv
SEED ?= 0
OUT ?= runs/quickstart
UV ?= uv
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH = torch==2.13.0+cpu
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
READY = $(VENV)/.ropd-ready
# more workers than cores, because many tests wait for a process or for a reply
PYTEST = $(VENV)/bin/python -m pytest
ABREAST = -n 3 --dist worksteal

.PHONY: env gpu-lock quickstart lint test test-fast test-chains test-training test-all docs docs-pages clean
.NOTPARALLEL:

env: $(READY)

$(READY): requirements-cpu.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "the CPU training stack is locked for Python 3.11: make PYTHON=python3.11")'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q --retries 1 --timeout 60 --extra-index-url $(TORCH_INDEX) '$(TORCH)'
	$(PIP) install -q --no-deps -r requirements-cpu.lock
	$(PIP) install -q --no-deps -e .
	touch $@

# For Python 3.11 and 3.12 on Linux x86-64: vLLM wants setuptools < 81 on the later one. Two packages come as source only.
gpu-lock:
	echo 'setuptools<81' | $(UV) pip compile --quiet --upgrade --no-annotate --extra gpu --python-version 3.11 \
		--python-platform x86_64-manylinux_2_31 --only-binary :all: --no-binary antlr4-python3-runtime \
		--no-binary langdetect --custom-compile-command 'make gpu-lock' -o requirements-gpu.lock pyproject.toml -

quickstart: $(READY)
	$(VENV)/bin/ropd quickstart --seed $(SEED) --out $(OUT)

lint: $(READY)
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m mypy

test: lint test-chains test-training

test-fast: $(READY)
	$(PYTEST) -m "not training and not slow and not long" $(ABREAST)

# all that needs neither verl nor vLLM
test-chains: $(READY)
	$(PYTEST) -m "not training and not long" $(ABREAST)

# one after the other: a start of verl needs the whole machine
test-training: $(READY)
	$(PYTEST) -m "training and not long"

test-all: lint
	$(PYTEST) -m "not training" $(ABREAST)
	$(PYTEST) -m training

docs: $(READY)
	$(VENV)/bin/python -m mkdocs build --strict

docs-pages: $(READY)
	$(VENV)/bin/python docs/_generate.py

clean:
	rm -rf $(VENV) dist build site .pytest_cache .mypy_cache .ruff_cache .coverage
