"""Batches: made by form, watched, and their results."""
