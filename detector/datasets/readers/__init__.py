"""Readers of annotation formats, one module each: ``is_FORMAT`` recognizes a file, ``read_FORMAT`` reads it."""
