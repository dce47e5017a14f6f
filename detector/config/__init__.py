"""Recipes: what a YAML file may say, read strictly."""
