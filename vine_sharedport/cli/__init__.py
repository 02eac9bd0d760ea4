"""The ``vine_sharedport`` command: one module for each noun; ``main`` dispatches."""
