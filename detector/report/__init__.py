"""A report to look at: one page that opens from disk, and files with its numbers."""
