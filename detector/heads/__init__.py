"""Stages that turn features into scores and moved boxes."""
