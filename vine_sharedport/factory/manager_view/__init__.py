"""The manager, as its factory sees it.

- ``lookup``: from a name, an address or a program's object to the manager that is served.
- ``monitor``: a thread that queries its status and workers.
- ``libraries``: TaskVine's library tasks, which are no demand for workers.
- ``routes``: which workers came by the shared port and which by TCP, from the kernel's table.
- ``silence``: which workers' connections get no answer, from the kernel too.

Called by the factory's setup and its loop. Knows nothing of jobs.
"""
