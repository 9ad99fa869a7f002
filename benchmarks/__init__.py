"""What the compressors reach on three small networks: `python -m benchmarks.compression`. See README.md."""
