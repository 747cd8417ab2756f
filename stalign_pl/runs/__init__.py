"""A run's folder and its life: who writes it, how it starts, stops, goes on and reports."""
