"""Puts the rooms together: `running.up` runs everything on this machine, `running.serve` one replica over a database.

`offline` is what needs the database alone; it does not wait for the rooms of a service, as nothing is imported here.
"""
