"""Evaluation: episodes under many conditions, told in many ways, on many workers, to one report."""
