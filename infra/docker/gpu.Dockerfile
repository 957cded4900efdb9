# A worker of the pool gpu. The image holds the environment; clone.sh brings the project when the worker starts.
# docker build --file infra/docker/gpu.Dockerfile --tag lcm-lora-gpu .
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d AS environment
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=/opt/venv
RUN uv venv /opt/venv
# The wheels bring CUDA and cuDNN themselves, and the NVIDIA container toolkit brings the driver: a CUDA base image would
# hold all of it twice.
COPY infra/docker/worker.lock /locks/
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip sync --require-hashes /locks/worker.lock
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
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
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
CMD ["prefect", "worker", "start", "--pool", "gpu", "--limit", "1", "--with-healthcheck"]
