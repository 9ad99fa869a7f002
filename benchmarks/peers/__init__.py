"""Other projects' compressors on the same networks, each in an environment of its own; see `environments.py`.

A peer's module is run by the Python of that environment. It imports the plain-torch modules of the benchmark, not this project.
"""
