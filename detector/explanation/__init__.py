"""Attribute the score of a box to feature-map cells, and diagnose why a box was found or missed."""
