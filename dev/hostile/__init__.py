"""Test with hostile input: seeded cases, each in a process of its own, which must end in order."""
