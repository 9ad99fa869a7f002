"""Layer handlers: 2-D convolutions."""

__version__ = "0.1.0"
