"""Tools for developers: mutation testing, and tests with hostile input."""
