"""What building, reading, a step and a start cost, each as a ratio within one run."""
