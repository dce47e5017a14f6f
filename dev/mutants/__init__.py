"""Mutation testing: change the library, and see which changes no test notices."""
