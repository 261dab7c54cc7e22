"""Requests: the list, one on one screen, its files and logs."""
