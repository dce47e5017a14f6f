"""Tests, by what they are about. `tests.reference` holds slow twins of the fast kernels; `tests.scripts` runs the tools."""
