-- The databases of both servers, each with an owner of its own. The image of PostgreSQL runs this once, when its
-- volume is empty. Passwords come from the environment and are in no command line.
\set ON_ERROR_STOP on
\getenv prefect PREFECT_DATABASE_PASSWORD
\getenv mlflow MLFLOW_DATABASE_PASSWORD

CREATE ROLE prefect LOGIN PASSWORD :'prefect';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';

CREATE DATABASE prefect OWNER prefect;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;

REVOKE CONNECT ON DATABASE prefect, mlflow, mlflow_auth FROM PUBLIC;
