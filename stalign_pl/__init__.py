"""ST-Align for PyTorch Lightning: multi-scale image-gene pretraining on spatial transcriptomics."""

__version__ = "0.1.0"
