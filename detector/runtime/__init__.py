"""What every room stands on: files, threads, compiled kernels, timing, progress."""
