"""Give MLflow its users: `python users.py worker serve`, again and again.

Each is an ordinary user: it reads everything, and changes what it made itself. Its password is
that of the environment, such as MLFLOW_WORKER_PASSWORD; a new one there is the user's new password.
"""

from __future__ import annotations

import os
import sys

from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client


def main(names: list[str]) -> None:
    """Make each user, or give it its password anew; the administrator's are MLflow's variables."""
    client = get_app_client("basic-auth", tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    for name in names:
        password = os.environ[f"MLFLOW_{name.upper()}_PASSWORD"]
        try:
            client.create_user(name, password)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            client.update_user_password(name, password)


if __name__ == "__main__":
    main(sys.argv[1:])
