#!/bin/sh
# Start the S3 store. Who may do what: the administrator makes buckets; MLflow and the workers each use their own.
set -eu
umask 077
cat > /tmp/keys.json <<KEYS
{"identities": [
  {"name": "admin", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
   "credentials": [{"accessKey": "admin", "secretKey": "$STORE_ADMIN_SECRET"}]},
  {"name": "mlflow", "actions": ["Read:mlflow", "Write:mlflow", "List:mlflow", "Tagging:mlflow"],
   "credentials": [{"accessKey": "mlflow", "secretKey": "$STORE_MLFLOW_SECRET"}]},
  {"name": "worker", "actions": ["Read:lcm-lora", "Write:lcm-lora", "List:lcm-lora", "Tagging:lcm-lora"],
   "credentials": [{"accessKey": "worker", "secretKey": "$STORE_WORKER_SECRET"}]}
]}
KEYS
# Only S3, which asks for keys, is bound to the network; the parts behind it ask for none.
exec /entrypoint.sh server -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false \
    -s3 -s3.ip.bind=0.0.0.0 -s3.port.iceberg=0 -s3.port.lance=0 -s3.config=/tmp/keys.json
