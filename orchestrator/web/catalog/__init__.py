"""Templates: what can be run, and what each takes."""
