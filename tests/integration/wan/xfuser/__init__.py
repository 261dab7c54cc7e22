"""The surface of xfuser as Wan2.1's generate.py uses it: both initialisers refuse a second call."""
