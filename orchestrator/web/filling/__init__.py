"""Forms made from a template's input schema: what is typed, what is wrong with it, what it means."""
