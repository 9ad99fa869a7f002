"""Layer handlers: fully connected layers and embeddings."""

__version__ = "0.1.0"
