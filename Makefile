# Everyday commands. `make help` lists them. The first one that runs creates .venv and installs what constraints.txt pins;
# later ones reinstall nothing unless one of the files an install depends on has changed.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV ?= .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check
# A second environment, with a CUDA build of torch, for `make gpu-dry-run`.
CUDA_VENV ?= .venv-cuda
CUDA_PYTHON := $(CUDA_VENV)/bin/python
CUDA_STAMP := $(CUDA_VENV)/.stamp
# Options for the step that installs torch and for no other, such as an index that holds CPU-only builds.
TORCH_ARGS ?=
# How many processes run tests.
WORKERS ?= 2
PYTEST_ARGS ?=
BENCH_ARGS ?=
MICRO_ARGS ?= -m short --benchmark-max-time=0.1
MICRO_JSON ?= out/micro.json

# A candidate has to run: a name on PATH may be a launcher for a version that is not there, and Debian's python3 has no
# ensurepip until python3-venv is installed. One with its C headers comes first, because torch.compile includes Python.h.
USABLE = import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
HEADERS = import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))
PYTHON ?= $(shell first=; \
	for p in python3.11 python3.12 python3.10 python3 python; do \
	    "$$p" -c '$(USABLE)' >/dev/null 2>&1 || continue; \
	    if "$$p" -c '$(HEADERS)' >/dev/null 2>&1; then first=$$p; break; fi; \
	    first=$${first:-$$p}; \
	done; echo $$first)

BUILD_SOURCES := $(shell find csrc cmake -type f 2>/dev/null) $(wildcard CMakeLists.txt setup.py)
FORMATTED_SOURCES := $(filter %.c %.cc %.cpp %.h %.hpp %.cu %.cuh,$(BUILD_SOURCES))
PROGRAMS = $(shell grep -l '^if __name__ == "__main__"' bench/*/*.py 2>/dev/null)
BENCHMARKS = $(filter-out bench/kernels/ratios.py bench/kernels/gpu.py bench/kernels/gpu_attention.py bench/kernels/gpu_dry_run.py bench/kernels/gpu_first.py \
    bench/quality/bert_head.py,$(PROGRAMS))

DEMO_PROMPTS := \
	"a red circle stands still on a black background" \
	"a small cyan square moves right on a gray background" \
	"a large blue square moves left, then bounces and a small yellow star moves up on a gray background" \
	"a green circle orbits, a small purple star moves left, a large orange triangle bounces, a white square grows and a cyan circle moves down on a checkered background"

# Each worker takes whole files, so that what a file compiles once is compiled once, in the order of tests/conftest.py.
# Workers share what they compiled, from run to run; none starts more threads or compilers than one.
PYTEST = TORCHINDUCTOR_CACHE_DIR=$(CURDIR)/.pytest_cache/inductor TORCHINDUCTOR_COMPILE_THREADS=1 OMP_NUM_THREADS=1 \
    $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
UNMARKED := not (compiles or aot or interpreter or generates or spawns or gpu)

.PHONY: help demo check test test-all lint bench micro gpu-first gpu-dry-run docs wheel install clean

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | column -t -s @ 2>/dev/null \
	    || sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1: \2/p' $(MAKEFILE_LIST)
	@echo
	@echo '  PYTHON=python3.12       the interpreter that creates $(VENV) (3.10 to 3.12; found by itself)'
	@echo '  TORCH_ARGS="..."        pip options for installing torch, such as an index of CPU-only builds'
	@echo '  WORKERS=4               how many processes run tests (2)'
	@echo '  PYTEST_ARGS="-k text"   options for pytest        BENCH_ARGS="--short"   options for every benchmark that has them'

demo: install ## Generate four clips, from simple to complex, at a precision that follows their content, and one in four steps
	$(BIN)/tadp generate $(DEMO_PROMPTS) --policy complexity --seed 0 --compare static:16,static:8 --out out/demo
	$(BIN)/tadp generate "a red circle moves right on a black background" --model few-step --policy static:8 --seed 0 \
	    --compare static:16 --out out/demo/few-step

check: lint ## Lint, then run the tests that neither compile nor start a process; a minute at most
	$(PYTEST) -m '$(UNMARKED)' $(PYTEST_ARGS)

test: install ## Run all tests, with GPU kernels compiled for sm_90 and few examples of each property
	$(PYTEST) $(PYTEST_ARGS)

test-all: install ## Run all tests, with GPU kernels compiled for all architectures and many examples of each property
	HYPOTHESIS_PROFILE=thorough $(PYTEST) --architectures all $(PYTEST_ARGS)

lint: install ## Check style, types, import directions and the format of the C++ sources
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(if $(FORMATTED_SOURCES),$(BIN)/clang-format --dry-run -Werror $(FORMATTED_SOURCES),@echo 'no C++ sources to check')

bench: install ## Run every benchmark but bench.quality.proof, which takes hours, and bench.quality.bert_head, which needs an extra; results go to bench/results
	@for file in $(BENCHMARKS); do \
	    module=$${file%.py}; module=$${module//\//.}; \
	    echo "== $$module"; \
	    if [[ '$(BENCH_ARGS)' == *--short* ]] && ! grep -q -- '"--short"' "$$file"; then \
	        echo 'has no short form, left out'; continue; \
	    fi; \
	    $(BIN)/python -m "$$module" --json "bench/results/$${module##*.}.json" $(BENCH_ARGS); \
	done
	@$(MAKE) micro MICRO_JSON=bench/results/micro.json $(if $(findstring --short,$(BENCH_ARGS)),,MICRO_ARGS=)
	@$(BIN)/python -m bench.page

micro: install ## Time every operator under pytest-benchmark, on three shapes; MICRO_ARGS= for all shapes
	@mkdir -p $(dir $(MICRO_JSON))
	$(BIN)/python -m pytest bench/kernels/micro.py -q --benchmark-only --benchmark-quiet --benchmark-json=$(MICRO_JSON) $(MICRO_ARGS)
	$(BIN)/python -m bench.kernels.ratios $(MICRO_JSON)

gpu-first: install ## On a new GPU: run the GPU tests, the doctor, tuning and the quick benchmarks; results go to bench/results
	$(BIN)/python -m bench.kernels.gpu_first

gpu-dry-run: install $(CUDA_STAMP) ## Compile a block of Wan2.1-14B for an H100 that need not be there, with a CUDA build of torch (several GB)
	PYTHONPATH=. $(CUDA_PYTHON) -m bench.kernels.gpu_dry_run

docs: install $(STAMPS)/docs ## Build the documentation into out/site; fails for a broken link
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

wheel: $(STAMPS)/build-tools ## Build the source distribution and the wheel into dist
	$(PIP) install build -c constraints.txt
	$(BIN)/python -m build --no-isolation

clean: ## Remove what was built, cached or generated; keeps the virtual environment and training runs
	rm -rf build dist out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks
	rm -f tadp/*.so $(STAMPS)/project
	find . \( -path ./$(VENV) -o -path ./.git -o -path ./runs \) -prune -o -name __pycache__ -type d -print0 \
	    | xargs -0 -r rm -rf

install: $(STAMPS)/project

# `venv` is called only where no working pip stands, so that an environment made by hand is used as it is.
$(STAMPS)/venv:
	@if ! $(PIP) --version >/dev/null 2>&1; then \
	    python='$(PYTHON)'; \
	    if ! "$$python" -c '$(USABLE)'; then \
	        echo 'No usable Python: tadp needs Python 3.10, 3.11 or 3.12 with its venv module (on Debian: python3-venv).' >&2; \
	        echo 'Name one that is not on PATH with PYTHON=/path/to/python3.' >&2; \
	        exit 1; \
	    fi; \
	    "$$python" -m venv $(VENV); \
	fi
	@$(BIN)/python -c '$(HEADERS)' \
	    || echo 'Warning: Python.h is missing, and torch.compile needs it (on Debian: python3-dev).' >&2
	@mkdir -p $(@D) && touch $@

# torch goes first and alone: the build of the project links against it, and no other requirement can then choose a
# newer release of it.
$(STAMPS)/torch: constraints.txt | $(STAMPS)/venv
	$(PIP) install torch -c constraints.txt $(TORCH_ARGS)
	@touch $@

$(STAMPS)/build-tools: constraints.txt | $(STAMPS)/torch
	$(PIP) install cmake ninja setuptools -c constraints.txt
	@touch $@

$(STAMPS)/project: pyproject.toml constraints.txt $(BUILD_SOURCES) | $(STAMPS)/build-tools
	$(PIP) install --no-build-isolation -e '.[dev]' -c constraints.txt
	@touch $@

# tadp itself is found in the working tree, with the library that `make install` built: it keeps to torch's stable ABI.
$(CUDA_STAMP): constraints-cuda.txt | $(STAMPS)/venv
	$(BIN)/python -m venv $(CUDA_VENV)
	$(CUDA_PYTHON) -m pip --disable-pip-version-check install diffusers numpy pillow rich safetensors torch torchao tqdm \
	    -c constraints-cuda.txt
	@touch $@

$(STAMPS)/docs: pyproject.toml constraints.txt | $(STAMPS)/project
	$(PIP) install --no-build-isolation -e '.[dev,docs]' -c constraints.txt
	@touch $@
