"""Input that cannot hurt: cases made by a seed, run one a process, each to end in order; `python -m dev.hostile`."""
