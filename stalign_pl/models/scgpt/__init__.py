"""scGPT as a gene stream."""
