"""Networks as archives of torch.export."""
