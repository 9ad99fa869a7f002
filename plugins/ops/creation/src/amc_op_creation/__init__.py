"""Layer handlers: tensors made inside a network."""

__version__ = "0.1.0"
