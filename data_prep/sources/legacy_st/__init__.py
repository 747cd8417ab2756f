"""Legacy spatial transcriptomics: her2st, ST-Net, the ST pipeline."""
