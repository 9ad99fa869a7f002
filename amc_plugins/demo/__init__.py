"""The main job from start to end on real images: what `amc demo` runs, and the network and data that its recipes name."""
