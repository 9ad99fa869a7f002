"""Genetic search for amc-plugins."""

__version__ = "0.1.0"
