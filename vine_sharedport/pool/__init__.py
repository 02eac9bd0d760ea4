"""The pool's side: where the shared port is, worker jobs, a pool of one's own.

``htcondor2`` is imported here and nowhere else, inside the functions that need it.
"""
