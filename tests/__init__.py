"""Tests by what they are about; `tests.reference` holds slow twins of kernels, `tests.scripts` runs the tools."""
