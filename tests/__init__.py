"""Tests, by what they are about; `tests.reference` holds slow, obvious twins of the fast kernels."""
