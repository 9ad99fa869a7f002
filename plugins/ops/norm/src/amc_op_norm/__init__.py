"""Layer handlers: batch normalisation."""

__version__ = "0.1.0"
