"""The ``vine_sharedport`` command: one module for each noun; ``main`` dispatches.

- ``common``: what nouns share: parser, types of values, options.
- ``factory_options``, ``factory_view``: the options of a factory, and its live view.

A noun reads its command line, calls what the package offers, prints, and returns an
``ExitStatus``; how anything is done stands below. Called by ``__main__`` and the installed
script alone.
"""
