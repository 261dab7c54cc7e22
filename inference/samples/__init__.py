"""Handlers that ship with Muster: to try it, to test it, to measure it."""
