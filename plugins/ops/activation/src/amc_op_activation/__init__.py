"""Layer handlers: activations, softmax, dropout and no-ops."""

__version__ = "0.1.0"
