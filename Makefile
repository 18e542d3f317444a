# All targets but help, studio and clean install .venv first if needed.
.DEFAULT_GOAL := help
.PHONY: help install studio hello demo test-packages test test-slow lint coverage bench soak wheels clean

python := .venv/bin/python
# In parallel processes with one thread each: more threads would compete for the cores.
pytest := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(python) -m pytest -n auto --dist worksteal

help:
	@echo "make hello      generate four pieces with the model that ships; nothing is compiled"
	@echo "make demo       train the quickstart model and generate four samples from it"
	@echo "make studio     build the page of the studio (needs Node 20 or newer)"
	@echo "make test       run the tests"
	@echo "make test-slow  run those that take long: several processes, kernels interpreted"
	@echo "make lint       check style, formatting and types"
	@echo "make coverage   run the tests, and list the lines that none of them reaches"
	@echo "make bench      run the quick benchmark, and compare with the record of this machine"
	@echo "make soak       run random trials for MINUTES=5 minutes: damaged files, kills, threads"
	@echo "make wheels     build the pages, and wheels into dist with and without the C++ operators"
	@echo "make install    make .venv and install everything (the other targets do it if needed)"
	@echo "make clean      remove .venv and caches; runs, prepared data and generated files stay"
	@echo
	@echo "PYTHON=python3.12 make install   uses another Python for a new .venv"

install:
	@bash scripts/install.sh

hello:
	@COMPILE=no bash scripts/install.sh
	$(python) cli.py generate shipped --samples 4 -o generated/hello

demo: install
	$(python) cli.py train configs/quickstart.yaml
	$(python) cli.py generate --temperature 0.9 --samples 4 -o generated/demo
	@echo "The trained model is the newest folder in runs; the samples are in generated/demo."

studio:
	cd studio && npm ci --no-audit --no-fund && npm run build

tested_with := muspy transformers onnx onnxruntime httpx schemathesis playwright
# Packages that only tests need: Triton (large; GPU builds of torch install a matching one), and the
# libraries that measures and the benchmark are compared with.
test-packages: install
	@$(python) -c 'import triton' 2>/dev/null || $(python) -m pip install --quiet triton==3.9.0 || \
		echo "triton could not be installed: its tests are skipped"
	@$(python) -m pip install --quiet -c constraints.txt $(tested_with) || \
		echo "not all of $(tested_with) could be installed: the tests that need them are skipped"

test: test-packages
	$(pytest) -m "not slow"

test-slow: test-packages
	$(pytest) -m slow

lint: install
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m mypy

coverage: test-packages
	$(pytest) --cov=seqgen --cov-report=term-missing:skip-covered

bench: install
	$(python) cli.py benchmark --quick --guard

soak: install
	$(python) scripts/soak.py --minutes $(or $(MINUTES),5)

wheels: install studio
	@bash scripts/wheels.sh

clean:
	rm -rf .venv build dist *.egg-info seqgen/native/*.so .pytest_cache .ruff_cache .mypy_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
