"""Serve a web page and a JSON API on one machine, safe against hostile images and other sites."""
