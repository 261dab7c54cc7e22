"""An unmodified script as a warm service (docs/script.md): what a fresh process would do, in one that stays.

`handler` is the built-in handler; the rest are its parts. Importing this package imports nothing.
"""
