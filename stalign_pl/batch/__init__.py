"""What travels between data, models, objectives and evaluation."""
