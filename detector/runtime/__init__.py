"""Provide what all packages use: files, threads, compiled kernels, progress and timing."""
