# A registered version behind MLflow's own server: prompts in, pictures out. LCM_LORA_MODEL says which.
# docker build --file infra/docker/serve.Dockerfile --tag lcm-lora-serve .
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d AS environment
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=/opt/venv
RUN uv venv /opt/venv
COPY infra/docker/serve.lock /locks/
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip sync --require-hashes /locks/serve.lock

FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends --yes tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home serve
COPY --from=environment /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    MLFLOW_HOST=0.0.0.0 \
    MLFLOW_PORT=8000 \
    MLFLOW_MODELS_WORKERS=1 \
    MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT=120 \
    DO_NOT_TRACK=true \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    DVC_NO_ANALYTICS=1 \
    ITERATIVE_DO_NOT_TRACK=1 \
    HF_HUB_DISABLE_TELEMETRY=1
USER 1000
WORKDIR /tmp
EXPOSE 8000
# Loading a base takes minutes, and more when it comes from the hub.
HEALTHCHECK --interval=15s --timeout=10s --start-period=600s --retries=4 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=8)"]
ENTRYPOINT ["tini", "--"]
CMD ["sh", "-c", "exec mlflow models serve --env-manager local --model-uri \"${LCM_LORA_MODEL:?name the model, such as models:/NAME@champion}\""]
