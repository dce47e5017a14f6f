"""Teach a detector while its images are labeled: the project, the rounds of training, what to label next."""
