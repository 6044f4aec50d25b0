# Two commands: `make setup`, then `make train` or `make test`. Everything is installed into .venv, nothing elsewhere.

# The build of MXNet, cpu or cu112. It sticks to .venv, so that `make test` does not undo `make setup VARIANT=cu112`.
VARIANT ?= $(or $(shell cat .venv/.variant 2>/dev/null),cpu)
PY      := .venv/bin/python
READY    = .venv/.ready-$(VARIANT)
# The first interpreter that MXNet 1.9.1 can live with and that really runs (a pyenv shim may not).
IN_RANGE = import sys; sys.exit(not (3, 8) <= sys.version_info[:2] <= (3, 11))
PYTHON   = $(shell for p in python3.11 python3.10 python3.9 python3.8 python3; do \
                     $$p -I -c '$(IN_RANGE)' >/dev/null 2>&1 && echo $$p && break; done)

# The caller's environment stays outside: an active venv, module paths, and settings that install elsewhere.
unexport VIRTUAL_ENV CONDA_PREFIX PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS PYTHONUSERBASE
unexport MYPYPATH PIP_USER PIP_TARGET PIP_PREFIX PIP_PYTHON UV_PYTHON UV_SYSTEM_PYTHON

setup: $(READY)

# The stamp makes the second `make setup` cheap. Another VARIANT gets a new .venv: two builds of MXNet in one
# environment overwrite each other. The variant is noted before the install, so that a broken install counts too.
$(READY): setup.cfg constraints.txt
	@test "$$(cat .venv/.variant 2>/dev/null)" = "$(VARIANT)" || $(MAKE) --no-print-directory venv VARIANT=$(VARIANT)
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[$(VARIANT),test,viz,dev]'
	$(PY) -W ignore -m recursive_gluon build
	@touch $@

# A Python 3.8-3.11 that is already here, or else one that uv fetches.
venv:
	rm -rf .venv
	@set -e; python='$(PYTHON)'; \
	if [ -n "$$python" ]; then \
	    echo "$$python -m venv .venv"; \
	    $$python -m venv .venv; \
	else \
	    echo "no Python 3.8-3.11 here: uv fetches one"; \
	    python3 -m venv .uv; \
	    .uv/bin/python -m pip install -q uv; \
	    .uv/bin/uv venv --seed --python 3.11 .venv; \
	fi
	@echo $(VARIANT) > .venv/.variant

train: setup
	$(PY) examples/sentiment.py --out runs/sentiment

test: setup
	$(PY) -m pytest -q

lint: setup
	$(PY) -m ruff check .
	$(PY) -m mypy

# The native core under the address and undefined-behaviour sanitizers. They have to be in the process from its start;
# MXNet and Python are not built with them, and free at their end only what they must.
SANITIZE = RECURSIVE_GLUON_SANITIZE=1 OMP_NUM_THREADS=1 \
           LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
           ASAN_OPTIONS=detect_leaks=0:alloc_dealloc_mismatch=0:detect_odr_violation=0 UBSAN_OPTIONS=print_stacktrace=1

sanitize: setup
	$(PY) -c 'import os; os.environ["RECURSIVE_GLUON_SANITIZE"] = "1"; from recursive_gluon.native.build import build; build()'
	$(SANITIZE) $(PY) -m pytest -q -p no:faulthandler $(addprefix tests/native/test_,core.py kernels.py fuzz.py lanes.py)

bench: setup
	$(PY) benchmarks/compare.py

clean:
	rm -rf .venv .uv build runs *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find recursive_gluon tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

.PHONY: setup venv train test lint sanitize bench clean
