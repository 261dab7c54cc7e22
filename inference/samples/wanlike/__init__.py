"""A script of the shape of Wan2.1's generate.py and its pipeline package. Neither knows Muster."""
