"""A manager's program as a job of the access point (``universe = local``).

- ``description``: the submit description, and what of the environment goes into it.
- ``job``: submits, finds, lists, stops, and follows the output.
- ``status``: a job's ad as a record.
- ``runner``: what the job runs, a process above the program that ends it in time.

Called by the ``manager`` noun. Knows nothing of TaskVine: the program is any Python program.
"""
