"""The commands of dvc.yaml, one file each: what a stage reads and writes, and what it calls.

The import closure of such a file is the code that its stage depends on, and dvc.yaml lists it.
"""
