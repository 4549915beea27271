# `make run` surveys, `make test` tests, `make image` builds the image. Each installs what it needs into .venv, once.

PY := .venv/bin/python
# .venv is installed without bytecode (requirements/install.sh), so what is imported has to leave its own there: importing
# torch took 3.6 s without and 1.7 s with it.
export PYTHONDONTWRITEBYTECODE :=
# What to survey was said neither on the command line nor in the environment: the examples, which need no network.
EMBEDDED := $(if $(strip $(MODELS)$(MODELS_FILE)$(ARGS)),,yes)

# A misspelt variable would be ignored, and the examples surveyed in place of the models that it names.
SETTINGS := MODELS MODELS_FILE OUTPUT TENSORS DEDUP SHOW_TOKENS PLAN_CONCURRENCY FORMAT LOG_FORMAT SCRATCH SCRATCH_LIMIT CONNECTIONS PARTS \
	READ_TIMEOUT MODEL_DEADLINE HF_ENDPOINT HF_TOKEN RUN TERMINATION_MESSAGE METRICS_FILE PUSHGATEWAY JOB_COMPLETION_INDEX JOB_COMPLETIONS
HEEDED := $(SETTINGS) ARGS PYTHON CHROME IMAGE BASE_IMAGE PIP_INDEX_URL TORCH_INDEX_URL UPGRADE
OF_LIBRARIES := AWS_% HF_HOME HF_HUB_% PIP_% UV_% DOCKER_% SSL_CERT_% REQUESTS_CA_BUNDLE HTTP_PROXY HTTPS_PROXY ALL_PROXY \
	NO_PROXY http_proxy https_proxy all_proxy no_proxy HOME PATH TMPDIR COLUMNS NO_COLOR PYTEST_ADDOPTS SHELL MAKEFLAGS
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
UNKNOWN := $(filter-out -%- $(HEEDED) $(OF_LIBRARIES),$(GIVEN))
NEAREST = $(shell $(or $(PYTHON),python3) -c 'import difflib, sys; \
	print(*difflib.get_close_matches(sys.argv[1].upper(), sys.argv[2:], 1, 0))' '$(1)' $(HEEDED))
ifneq ($(UNKNOWN),)
$(error $(foreach name,$(UNKNOWN),$(name): found a variable that nothing heeds, expected $(call NEAREST,$(name)) or another \
	of `make help`; correct it))
endif
IS_SET = $(if $(filter undefined,$(origin $(1))),,$(1))
ifneq ($(and $(filter run,$(MAKECMDGOALS)),$(EMBEDDED)),)
EMPTY := $(strip $(foreach name,MODELS MODELS_FILE,$(call IS_SET,$(name))))
MISSPELT := $(strip $(foreach name,MODEL MODEL_FILE MODELFILE MODELSFILE,$(call IS_SET,$(name))))
ifneq ($(EMPTY),)
$(error $(EMPTY): found no model in it, expected one or more; name some, or unset it to survey the examples)
endif
ifneq ($(MISSPELT),)
$(error $(MISSPELT): found it in the environment, expected MODELS or MODELS_FILE; name the models there, or unset it)
endif
endif
# The libraries' own progress bars and advice would tear the one line it prints for each model.
PREPARE := TQDM_DISABLE=1 TRANSFORMERS_VERBOSITY=error $(PY) examples/prepare.py

# The image's name; `make image` says with it what it built, and `make test-image` what to run.
export IMAGE ?= black-hole-survey

.PHONY: help run unit check test test-pages screenshots bench image test-image lint lock schema refusals clean

help: ## this list
	@echo 'make run                                        survey two example models that packages carry, into ./surveys'
	@echo 'make run MODELS="org/name …" OUTPUT=s3://…      survey models of the Hugging Face Hub, into S3 (or a folder)'
	@echo 'make run ARGS="--help"                          every setting, as option and as environment variable'
	@echo 'make unit                                       the unit tests alone: seconds'
	@echo 'make check                                      formatting, linters, strict types and unit tests: before a commit'
	@echo 'make test                                       install what the tests need, and run all but those of pages and image'
	@echo 'make test-pages                                 open the pages in a Chromium: CHROME names it, or it is on the PATH'
	@echo 'make screenshots                                take the pictures of docs/images in it, from surveys made on the spot'
	@echo 'make bench                                      measure the job beside rulers, into benchmarks/RESULTS.md'
	@echo 'make image                                      build the container image, also where no registry can be reached'
	@echo 'make test-image                                 build it, run it, and run the Kubernetes Job'"'"'s containers'
	@echo 'make lint                                       formatting, linters, strict types; also Dockerfile and manifests'
	@echo 'make lock                                       resolve pyproject.toml anew into requirements/*.txt'
	@echo 'make schema                                     write docs/manifest.schema.json from the code'
	@echo 'make refusals                                   write the tables of docs/refusals.md from the code'
	@echo 'make clean                                      remove .venv, caches and the prepared examples'
	@echo
	@echo 'IMAGE, BASE_IMAGE, PIP_INDEX_URL and TORCH_INDEX_URL are heeded by make image.'
	@echo
	@echo 'PYTHON=python3.12 chooses the interpreter; a .venv of another one is made anew. make ends with 2 where the'
	@echo 'job fails; the job'"'"'s own exit status (65 a model, 75 try again, 78 a setting) is that of'
	@echo '.venv/bin/python entrypoint.py MODELS…'

run:
	@sh requirements/install.sh .venv run $(if $(EMBEDDED),examples)
	@$(if $(EMBEDDED),$(PREPARE))
	@$(if $(EMBEDDED),MODELS_FILE=examples/models.yaml SHOW_TOKENS=$${SHOW_TOKENS:-8}) $(PY) entrypoint.py $(ARGS)

PYTEST = $(PY) -m pytest -q -n logical --maxprocesses 8
CHECK_CODE = $(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

unit:
	@sh requirements/install.sh .venv run dev
	@$(PYTEST) tests/unit $(ARGS)

check:
	@sh requirements/install.sh .venv run examples vocabularies browser dev
	@$(CHECK_CODE)
	@$(PYTEST) tests/unit

test:
	@sh requirements/install.sh .venv run examples vocabularies dev
	@sh requirements/install.sh .venv/mirror mirror
	@$(PREPARE)
	@$(PYTEST) $(ARGS)

# Two at once: each has a Chromium of its own, which draws with several threads.
test-pages:
	@sh requirements/install.sh .venv run examples vocabularies browser dev
	@$(PREPARE)
	@$(PY) -m pytest -q -n 2 tests/browser $(ARGS)

screenshots:
	@sh requirements/install.sh .venv run examples browser dev
	@$(PREPARE)
	@$(PY) -m tests.browser.screenshots

# ARGS="--rows local --gigabytes 0.8 --rounds 5" measures a part, and writes nothing.
bench:
	@sh requirements/install.sh .venv run dev
	@$(PY) -m benchmarks.bench $(ARGS)

image:
	@sh requirements/build-image.sh

# Two at once: a container takes the memory and the core that a worker of the Job would.
test-image: image
	@sh requirements/install.sh .venv run examples vocabularies dev
	@$(PREPARE)
	@$(PY) -m pytest -q -n 2 tests/container $(ARGS)

lint:
	@sh requirements/install.sh .venv run examples vocabularies browser dev
	@$(CHECK_CODE)
	@.venv/bin/hadolint Dockerfile
	@.venv/bin/yamllint --strict .
	@$(CHECK_RENDERED)

# trivy looks at what is applied, so at manifests as kustomize renders them.
CHECK_RENDERED = set -e; folder=$$(mktemp -d); trap 'rm -r "$$folder"' EXIT; cp Dockerfile "$$folder"; \
	for each in k8s/base k8s/overlays/*; do .venv/bin/kubectl kustomize "$$each" > "$$folder/$${each\#\#*/}.yaml"; done; \
	.venv/bin/trivy config -q --exit-code 1 --table-mode detailed --ignorefile .trivyignore.yaml \
	--skip-version-check --skip-check-update "$$folder"

# Neither an index nor a folder of this machine may get into the lock files, so nothing but pins and hashes is written.
COMPILE = $(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--excludes requirements/excludes.txt $(UPGRADE)
lock:
	@sh requirements/install.sh .venv run
	@$(PY) -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(COMPILE) pyproject.toml --group torch-needs -o requirements/run.txt
	$(COMPILE) --group examples -c requirements/run.txt -o requirements/examples.txt
	$(COMPILE) --no-deps --group vocabularies -o requirements/vocabularies.txt
	$(COMPILE) --group mirror -o requirements/mirror.txt
	$(COMPILE) --group dev -c requirements/run.txt -c requirements/examples.txt -o requirements/dev.txt
	$(COMPILE) --group browser -c requirements/run.txt -c requirements/examples.txt -c requirements/dev.txt \
		-o requirements/browser.txt

schema:
	@sh requirements/install.sh .venv run
	@$(PY) -c 'import json; from pathlib import Path; from job.manifest.schema import json_schema; \
	Path("docs/manifest.schema.json").write_text(json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n", "utf-8")'

# ARGS="tests/unit tests/servers" runs these tests first, and names one for each refusal that has none.
refusals:
	@sh requirements/install.sh .venv run examples vocabularies dev
	@$(PY) -m tests.refusals $(ARGS)

clean:
	rm -rf .venv .venv.lock .image .mypy_cache .pytest_cache .ruff_cache .hypothesis examples/checkpoints
