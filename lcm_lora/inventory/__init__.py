"""The first look at what lies outside the graph: sources, base and scoring networks.

Everything here takes seconds, imports no torch, and writes one small file for each thing, on which
the stages depend: what changed out there triggers exactly what follows from it.
"""
