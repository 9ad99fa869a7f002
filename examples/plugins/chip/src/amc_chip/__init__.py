"""Channel independence-based pruning (CHIP)."""
