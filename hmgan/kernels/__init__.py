"""Passes over maps that a GPU makes in one: Triton kernels, with what torch computes in their place as reference."""
