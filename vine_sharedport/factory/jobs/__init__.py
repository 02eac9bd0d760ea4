"""The factory's jobs, from the submit description to their end.

- ``description``: what is submitted, from the options.
- ``queue``: submits, follows, repairs, removes, at the schedd.
- ``job``, ``table``: the state of each job; compute only.
- ``worker_match``: which job is which of the manager's workers.
- ``counts``: how many workers there are, this factory's and others'.
- ``last_words``: what a job has written last, and which files stay.
- ``ledger``: what has become of them, in numbers and problems.
- ``hold_causes``, ``hold_repair``: why jobs are held, the remedy, and the repair.
- ``failure_backoff``, ``machine_fit``, ``outdated``, ``removal``: pauses after failures,
  jobs too large for the pool, jobs with earlier options, the end.

Called by ``factory.loop``. Does not decide how many workers there are to be.
"""
