"""The command line `amc`. Modules here are light: they import typer, and everything else inside the functions that need it."""
