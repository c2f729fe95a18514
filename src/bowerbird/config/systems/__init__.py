"""Options of the systems: one module each, of the name of the system's package; ``registry.py`` lists them."""
