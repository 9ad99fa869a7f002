"""Layers of ConvNeXt and MetaFormer, and what amc-plugins needs to know of them."""
