# Everything starts from a fresh clone: each target makes its own .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow notebooks build test-browser docs base results clean

INSTALL := $(BIN)/pip install -q --disable-pip-version-check -c constraints.txt

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) torch==2.13.0
	$(INSTALL) -e .
	touch $@

.venv/.tested: .venv/.ready
	$(INSTALL) -e '.[test]'
	touch $@

demo: .venv/.ready  ## learn three personal concepts, draw them alone and together (minutes)
	$(BIN)/python demo/demo.py

test: .venv/.tested  ## lint, architecture, types, the default tests (minutes)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check -q .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyrefly check --threads 1 --summary=none
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadgroup

test-slow: .venv/.tested .venv/.docs  ## the tests that take minutes
	$(BIN)/pytest -m slow

.venv/.docs: .venv/.ready
	$(INSTALL) -e '.[docs]'
	touch $@

docs: .venv/.docs  ## the pages of docs/ as a site, build/site/index.html; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

notebooks: .venv/.tested .venv/.docs  ## the three tutorials run from end to end
	$(BIN)/pytest -m slow tests/test_notebooks.py

build: .venv/.tested  ## sdist and wheel into build/dist
	$(BIN)/python -m build --no-isolation --outdir build/dist .

test-browser: .venv/.ready  ## the studio in a headless browser (needs npm, and a chromium: apt-get install chromium)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt playwright
	npm install --silent --no-save --prefix build/npm axe-core@4.14.1
	OMP_NUM_THREADS=1 $(BIN)/pytest -m browser -rP tests/studio/test_browser.py

base: .venv/.ready  ## make the shipped base and the judge again, from the npm registry to the weights (hours on a CPU; resumes)
	$(INSTALL) -e '.[base]'
	$(BIN)/python -m mini_base
	$(BIN)/python -m mini_base.judge

results: .venv/.ready  ## measure the figures of results/main.json again
	$(BIN)/python -m benchmarks.main all

clean:
	rm -rf .venv demo/out build *.egg-info
