"""Image files to arrays, resizing, drawing."""
