"""Reinforcement learning of compression ratios for amc-plugins."""

__version__ = "0.1.0"
