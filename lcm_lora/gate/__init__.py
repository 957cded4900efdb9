"""Decide by rules over one table whether an adapter becomes champion."""
