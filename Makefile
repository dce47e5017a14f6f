# The two commands of the README and the developer's habits. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.base
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal
# ruff cannot read setup.cfg, so its settings stand here
RUFF_FORMAT := --line-length 120
RUFF_CHECK := $(RUFF_FORMAT) --select E,F,W,I,B,UP,SIM,RUF,N,PTH,PIE,RET --ignore N812
SOURCES := detector tools benchmarks examples dev tests
# extras of setup.cfg, parted by commas, that only tests marked `all` need; the lock says the versions of what it has
TEST_ALL_EXTRAS := web-test,report-test,ray,parquet,cloud,heic,notebooks,audit,fuzz
# Debian's browser, where it is missing and may be installed; without it the tests of the page skip loudly
CHROMIUM := command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium >/dev/null; } || \
	echo 'chromium is not installed: the page is not tested in a browser'

.PHONY: help setup detect paper web test test-all mutants hostile fuzz audit lint types format lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

setup: $(READY) ## create .venv with everything: training, other networks, the developer's tools (6 GB)

# the stamps are written last: a killed set-up starts over, a finished one costs nothing
$(BASE): requirements-base.lock setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, but $(PYTHON) is " + sys.version.split()[0])'
	@echo 'setting up $(VENV) for detection: 250 MB are downloaded'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --no-deps --no-compile --require-hashes -r requirements-base.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(READY): $(BASE) requirements.lock
	@echo 'completing $(VENV): some gigabytes are downloaded, which takes a minute or more'
	@$(PIP) install --no-deps --require-hashes -r requirements.lock
	@touch $@

detect: $(BASE) ## name and box the objects of IMAGE=image.jpg (default: a cat)
	@$(BIN)/python tools/detect.py "$(or $(IMAGE),detector/web/static/samples/cat.jpg)"

# a killed run continues from $(PAPER_FOLDER); the 508 images of the results: PAPER='--split val508' (data/README.md)
VOC ?= data/VOC2007
PAPER_FOLDER ?= runs/paper
paper: $(READY) ## measure the paper's tables on VOC=data/VOC2007 overnight; a trial: PAPER='--fraction 0.1'
	@mkdir -p $(PAPER_FOLDER)
	@$(BIN)/python tools/benchmark.py paper --voc "$(VOC)" --work $(PAPER_FOLDER)/cache \
		--results $(PAPER_FOLDER)/results.json --page $(PAPER_FOLDER)/paper.md $(PAPER)

web: $(READY) ## try the detector in the browser, on http://127.0.0.1:8000 (Ctrl-C ends it)
	@$(BIN)/python -m detector serve

# a core for each process: threads inside of them would only wait for each other; tests of threads ask for theirs
ONE_THREAD := OMP_NUM_THREADS=1 DETECTOR_THREADS=1
test: $(READY) ## run the tests
	@$(ONE_THREAD) $(PYTEST)

test-all: $(READY) ## run the tests that take longer: the wheel, the examples, the page in a browser
	$(if $(TEST_ALL_EXTRAS),$(EXTRAS) '.[$(TEST_ALL_EXTRAS)]')
	@$(CHROMIUM)
	@$(ONE_THREAD) $(PYTEST) -m all

mutants: $(READY) ## put small faults into changed lines, list those that no test notices (more: MUTANTS='--all --sample 100')
	@$(ONE_THREAD) $(BIN)/python -m dev.mutants $(MUTANTS)

hostile: $(READY) ## try 6,880 cases of damaged and lying input, and print a table
	@OMP_NUM_THREADS=1 $(BIN)/python -m dev.hostile --times 10

EXTRAS = $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --editable
TIME ?= 60
fuzz: $(READY) ## fuzz every reader of files for TIME seconds each (one of them: TARGET=voc)
	@$(EXTRAS) '.[fuzz]'
	@$(ONE_THREAD) $(BIN)/python -m dev.fuzz --time $(TIME) $(TARGET)

audit: $(READY) ## read the source for weaknesses, check licenses, write build/audit/sbom.cdx.json
	@$(EXTRAS) '.[audit]'
	@$(BIN)/python -m dev.audit

lint: $(READY) ## check style and format
	$(BIN)/ruff check $(RUFF_CHECK) $(SOURCES)
	$(BIN)/ruff format --check $(RUFF_FORMAT) $(SOURCES)

types: $(READY) ## check types
	$(BIN)/mypy

format: $(READY) ## format the sources
	$(BIN)/ruff check --fix-only $(RUFF_CHECK) $(SOURCES)
	$(BIN)/ruff format $(RUFF_FORMAT) $(SOURCES)

LOCK := --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --custom-compile-command "make lock"
lock: $(READY) ## pin every dependency of setup.cfg in requirements.lock and requirements-base.lock
	$(BIN)/uv pip compile setup.cfg --extra dev $(LOCK) --output-file requirements.lock
	$(BIN)/uv pip compile setup.cfg --extra build --constraint requirements.lock $(LOCK) --output-file requirements-base.lock

clean: ## remove the virtual environment and all caches
	rm -rf $(VENV) build *.egg-info .mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
