"""Voices from pieces of other voices: a bench for zero-shot voice conversion."""
