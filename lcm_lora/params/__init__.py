"""The parameters: one frozen, strict section a file, and the file that holds them all.

Sections import nothing of the stages, so that reading parameters is instant; and each stage imports
its own alone, so that a new parameter of the report trains no adapter anew.
"""
