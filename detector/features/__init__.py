"""Stages that turn an image and boxes into features."""
