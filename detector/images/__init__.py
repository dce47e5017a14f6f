"""Image files to arrays and back, resizing, drawing."""
