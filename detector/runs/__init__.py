"""Training runs and loops over many images: folders, forecasts, summaries, and the work that workers do."""
