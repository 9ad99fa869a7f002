"""Exporters `pkl` and `json`: the graph document with its tensors, as a torch archive and as readable JSON."""

__version__ = "0.1.0"
