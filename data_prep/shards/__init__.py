"""One slide to its files: crops, niches, samples, tars, arrays and AnnData."""
