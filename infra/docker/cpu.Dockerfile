# A worker of the pool cpu. The image holds the environment; clone.sh brings the project when the worker starts.
# docker build --file infra/docker/cpu.Dockerfile --tag lcm-lora-cpu .
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d AS environment
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=/opt/venv
RUN uv venv /opt/venv
# Wheels of torch from PyPI bring CUDA along, gigabytes that a CPU has no use for. So torch and torchvision come from the
# index of PyTorch, both or neither: one built for CUDA beside one that is not cannot be imported. Their hashes are not
# in the lock, which is made from PyPI; all else is checked by hash.
COPY infra/docker/worker.lock infra/docker/cuda.txt /locks/
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --require-hashes --no-deps --excludes /locks/cuda.txt --requirement /locks/worker.lock \
    && uv pip install --no-deps --default-index https://download.pytorch.org/whl/cpu torch==2.15.0 torchvision==0.29.2
# The project lies in /project, as a clone that comes later; empty packages stand in for it here.
WORKDIR /project
COPY pyproject.toml README.md ./
RUN mkdir lcm_lora tasks flows && touch lcm_lora/__init__.py tasks/__init__.py flows/__init__.py \
    && uv pip install --no-deps --editable .

FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d
# Git trusts folders of others by name alone: on a cluster a volume's root stays root's.
# Debian keeps only the newest build of a package: a pinned one would soon not be found.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends --yes git tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home worker \
    && install --directory --owner worker --group worker /project /repository \
    && git config --system --add safe.directory /project \
    && git config --system --add safe.directory /repository \
    && git config --system --add safe.directory /repository/.git
COPY --from=environment /opt/venv /opt/venv
COPY infra/docker/clone.sh /usr/local/bin/
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LCM_LORA_PROJECT=/project \
    LCM_LORA_REPOSITORY=/repository \
    DO_NOT_TRACK=true \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    DVC_NO_ANALYTICS=1 \
    ITERATIVE_DO_NOT_TRACK=1 \
    HF_HUB_DISABLE_TELEMETRY=1
USER 1000
WORKDIR /project
# The worker's own answer: has it asked the server for work lately?
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=4 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=8)"]
ENTRYPOINT ["tini", "--", "clone.sh"]
# Without a limit: flows hold a place here, for days where a person is waited for, and their stages need others.
CMD ["prefect", "worker", "start", "--pool", "cpu", "--with-healthcheck"]
