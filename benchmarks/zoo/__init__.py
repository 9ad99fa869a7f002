"""The zoo: what capture, channel groups and removal make of the networks that people really use. See `__main__.py`."""
