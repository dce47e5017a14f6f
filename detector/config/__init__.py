"""Recipes as frozen, strictly validated models."""
