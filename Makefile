# Engram on one machine. Needs Python 3.11 and nothing else; `make help` lists the words.

ENGINE ?= cpu
PYTHON ?= python3.11
PY := .venv/bin/python
ENGRAM := .venv/bin/engram

export ENGINE PYTHON
ifeq ($(ENGINE),gpu)
export ENGRAM_ENGINE__DEVICE := gpu
endif
ifdef MODEL
export ENGRAM_ENGINE__MODEL := $(or $(realpath $(MODEL)),$(MODEL))
export ENGRAM_ENGINE__SERVED_NAME := $(notdir $(patsubst %/,%,$(MODEL)))
endif
ifdef PORT
export ENGRAM_SERVER__PORT := $(PORT)
endif
ifdef DATA
export ENGRAM_DATA := $(abspath $(DATA))
endif

.DEFAULT_GOAL := help
.PHONY: help install up down status test lint format bench bench-full demo-model clean

help:  ## Show this
	@echo "make WORD [PORT=8000] [DATA=.engram] [MODEL=folder or Hugging Face name] [ENGINE=cpu|gpu]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install:  ## Create .venv from the committed lock, if it changed
	@deploy/install.sh

up: install  ## Start Engram with its demo, and print how to talk to it
	@$(ENGRAM) up

down:  ## Stop what `make up` started; documents and keys stay
	@if [ -x $(ENGRAM) ]; then $(ENGRAM) down; else echo "nothing is installed"; fi

status:  ## Show what runs
	@$(ENGRAM) status

test: install  ## Run every test that this machine can (T=path or -k words to choose)
	@$(PY) -m pytest $(T)

lint: install  ## Check style and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: install  ## Rewrite to the house style
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

bench: install  ## Measure this machine in five minutes: Engram, vLLM, a relay
	@$(PY) -m loadtests.bench

bench-full: install  ## All arms, streams, bodies, modes, overload (SECTIONS="model overload")
	@$(PY) -m loadtests.bench --full $(if $(SECTIONS),--sections $(SECTIONS))

demo-model: install  ## Train the demo model and its adapter again (MINUTES=120; resumes)
	@$(PY) -m deploy.demo.model.build --minutes $(or $(MINUTES),120)

clean:  ## Remove caches; .venv and data stay
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
