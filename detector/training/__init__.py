"""From a data set to a detector: sampling, mining, solvers, gradient descent. Detection needs none of it."""
