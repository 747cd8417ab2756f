"""Fetching public slides from the Hugging Face Hub: what there is, what is wanted, what is not here yet."""
