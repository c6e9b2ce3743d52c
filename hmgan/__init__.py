"""hmgan: class-conditional GANs from unconditional ones, by hyper-modulation."""

__version__ = "0.1.0"
