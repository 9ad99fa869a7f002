"""Pruning and decomposition in one, for amc-plugins."""

__version__ = "0.1.0"
