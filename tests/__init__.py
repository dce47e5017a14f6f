"""Tests, a file a module; `tests.reference` holds slow, obvious twins of the fast kernels."""
