"""The users' managers, with a shared port: the only place that imports ndcctools.

- ``extension``: gives a manager's class the argument ``shared_port``, by ``settings``.
- ``taskvine``, ``work_queue``: the classes that programs import; ``systems``: what differs.
  ``taskvine_names`` is for type checkers.
- ``peer_transfers``: files from worker to worker, off by default; ``temps``: the tasks that
  then wait for files of others.
- ``listener``: finds the descriptor that a manager listens on.
- ``catalog``: warns where reports to the catalog server would hold a manager's loop.
- ``stock_factory``: ndcctools' factory, with our launcher.
- ``run``, ``site``: the same for programs that nobody edits.

Called by the public names and ``run``. A stock manager's private attributes are used here
alone; everybody else gets a ``Reference``. Asks ``condor`` for what HTCondor knows.
"""
