"""Map work over images: in threads, processes, or on a Ray cluster."""
