"""Layer handlers: fully connected layers."""

__version__ = "0.1.0"
