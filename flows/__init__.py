"""Compositions of tasks. Importing this prepares the environment, before Prefect reads it."""

from flows import environment

environment.prepare()
