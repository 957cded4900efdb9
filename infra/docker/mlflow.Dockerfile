# The MLflow server with authentication, PostgreSQL and S3; also what gives it users and buckets (infra/bootstrap).
# docker build --file infra/docker/mlflow.Dockerfile --tag lcm-lora-mlflow .
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d AS environment
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=/opt/venv
RUN uv venv /opt/venv
COPY infra/docker/mlflow.lock /locks/
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip sync --require-hashes /locks/mlflow.lock

FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d
RUN useradd --uid 1000 --create-home mlflow
COPY --from=environment /opt/venv /opt/venv
COPY infra/docker/basic_auth.ini /etc/mlflow/
COPY infra/bootstrap/ /bootstrap/
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MLFLOW_AUTH_CONFIG_PATH=/etc/mlflow/basic_auth.ini \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    MLFLOW_HOST=0.0.0.0 \
    MLFLOW_PORT=5000 \
    MLFLOW_WORKERS=1 \
    DO_NOT_TRACK=true \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    DVC_NO_ANALYTICS=1 \
    ITERATIVE_DO_NOT_TRACK=1 \
    HF_HUB_DISABLE_TELEMETRY=1
USER 1000
WORKDIR /tmp
EXPOSE 5000
HEALTHCHECK --interval=15s --timeout=10s --start-period=90s --retries=4 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/health', timeout=8)"]
CMD ["mlflow", "server", "--app-name", "basic-auth"]
