"""Every engine against every other, on a GPU or on this CPU.

It runs from a bare copy of the tree with Python, PyTorch, ONNX Runtime and NumPy: nothing here
imports more, except where it says so and skips by name.
"""
