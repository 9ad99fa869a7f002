"""Compressor `lowrank`: layers as chains of two or three smaller ones, fitted on calibration data."""

__version__ = "0.1.0"
