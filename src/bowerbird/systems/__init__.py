"""The systems: one package each, with the same files.

    __init__.py   the paper's notation, and what we chose where it is silent
    network.py    the networks
    training.py   the training stages: ``STAGES``, by name
    system.py     the conversion: ``SYSTEM``

A system that learns nothing lacks the two in the middle; what has a subject of its own stands beside them. The options of
``systems/<name>/`` are in ``config/systems/<name>.py``, the registry of all systems is ``config/systems/registry.py``, which
also finds systems that lie in other packages. A package is imported only when it is asked for.
"""
