"""Kernels in C++, compiled at first use where there is a compiler; plain PyTorch computes the same without them."""
