# make demo    the environment, sigan and its plugins; examples/portraits as watercolors in demo/
# make test    the same environment, then the tests
# make check   the linters, and the types
# make docs    writes docs/cli.md anew from the commands, docs/performance.md from the figures
# make site    builds docs/ and the README as pages into site/
# make licences writes docs/third-party.md anew from the installed packages
# make dist    wheel, source and bill of materials (CycloneDX) in dist/
# make lowest  an environment of the lowest versions that pyproject.toml allows, and a part of the tests in it
# make bench   measures speed and memory
# make clean   removes what the others made, the environment too
#
# PYTHON=python3.12 chooses the interpreter, VENV=dir the environment, PIP_ARGS what pip is given besides.

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
STYLE ?= watercolor
# What meets the dependencies most: files, weights, networks, commands.
LOWEST := $(patsubst %,tests/test_%.py,images cli cli_settings cli_completion cli_render downloads weights bases packs \
	manifest checkpoints nets_stylegan2 report styles)

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RAY := $(VENV)/.ray
PROJECTS := . $(patsubst %/pyproject.toml,%,$(wildcard plugins/sigan-styles-classic/pyproject.toml plugins/sigan-foundry/pyproject.toml))

.PHONY: demo test check docs site licences dist lowest bench clean

# The environment is made once, and again when a pyproject changes.
$(STAMP): pyproject.toml $(PROJECTS:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "sigan needs Python 3.10 or newer; choose one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -e '.[test,docs]' \
		$(foreach project,$(filter-out .,$(PROJECTS)),-e $(project))
	@touch $@

demo: $(STAMP)
	$(BIN)/sigan stylize --style $(STYLE) examples/portraits demo
	$(BIN)/python examples/contact_sheet.py examples/portraits demo demo/contact-sheet.png

# Ray and an S3 server on loopback, for tests/test_ray.py alone: 250 MB that the demo does without.
$(RAY): $(STAMP) plugins/sigan-ray/pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile $(PIP_ARGS) -e 'plugins/sigan-ray[test]'
	@touch $@

# Two processes with a thread each; a file's tests stay in one process, with what they share.
test: $(RAY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pip check --disable-pip-version-check

docs: $(STAMP)
	$(BIN)/python docs/generate.py
	$(BIN)/python -m benchmarks.page

site: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

licences: $(STAMP)
	$(BIN)/python -m supply.licences

dist: $(STAMP)
	$(BIN)/python -c 'import setuptools.build_meta as b; b.build_sdist("dist"); b.build_wheel("dist")'
	$(BIN)/python -m supply.sbom dist/sigan.cdx.json

# uv, because pip cannot be asked for the lowest; torch's build for CUDA is several gigabytes.
lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) uv
	.venv-lowest/bin/uv pip install --python .venv-lowest --resolution lowest-direct -e .
	.venv-lowest/bin/uv pip install --python .venv-lowest pytest hypothesis setuptools
	.venv-lowest/bin/python -m pytest $(LOWEST)

bench: $(STAMP)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .venv-lowest demo site build dist *.egg-info plugins/*/*.egg-info plugins/*/build .pytest_cache .ruff_cache
	find sigan plugins tests benchmarks docs examples -name __pycache__ -type d -prune -exec rm -rf {} +
