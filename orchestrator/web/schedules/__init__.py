"""Schedules: what comes next, what became of each tick, made and changed by form."""
