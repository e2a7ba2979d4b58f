# Two commands: `make run` and `make test`. Both build .venv when it is not there or pyproject.toml has changed.
#   make run ARGS='--episodes 3 --task "stack the red block on the blue block"'

VENV := .venv
BASE := $(VENV)/.stamp-base
FULL := $(VENV)/.stamp-full
BIN := $(VENV)/bin
PYTHON ?= $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: setup develop run test fuzz calibration mutate lerobot format clean

setup: $(BASE)  ## what running needs, simulator included

develop: $(FULL)  ## and what training, data sets and the tests need

run: $(BASE)  ## episodes in real time on the emulated arm
	$(BIN)/gato-arm run $(ARGS)

test: $(FULL)  ## lint, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(ARGS)

fuzz: $(FULL)  ## ten million random bytes into each parser of replies
	$(BIN)/python -m tests.fuzz.fuzz_parsers --bytes 10000000 --seed 0

calibration: $(BASE)  ## joints, lenses and places of cameras on 20 random rigs, against the truth
	$(BIN)/gato-arm calibrate rehearse --rigs 20 $(ARGS)

mutate: $(FULL)  ## do the tests of the safety code notice every change to it?
	$(BIN)/mutmut run --max-children 2
	$(BIN)/mutmut results

# LeRobot in environments of their own (some gigabytes each); 0.6.1 wants Python 3.12.
LEROBOT ?= .lerobot
lerobot: $(FULL) $(LEROBOT)/0.4.4/.stamp $(LEROBOT)/0.6.1/.stamp  ## does LeRobot load our datasets, and do we load its?
	$(BIN)/python -m tests.lerobot.check $(LEROBOT)/0.4.4/bin/python $(LEROBOT)/0.6.1/bin/python --describe

$(LEROBOT)/0.4.4/.stamp:
	$(PYTHON) -m venv $(LEROBOT)/0.4.4
	$(LEROBOT)/0.4.4/bin/pip install --quiet torch==2.10.0 torchvision==0.25.0 lerobot==0.4.4
	@touch $@

$(LEROBOT)/0.6.1/.stamp:
	python3.12 -m venv $(LEROBOT)/0.6.1
	$(LEROBOT)/0.6.1/bin/pip install --quiet torch==2.10.0 torchvision==0.25.0 'lerobot[dataset]==0.6.1'
	@touch $@

format: $(FULL)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV)

$(BASE): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or later found; install it, or say make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

# torch first and alone: where a wheel of this very version lies at hand, pip then takes that one.
$(FULL): $(BASE)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dataset,dev]'
	@touch $@
