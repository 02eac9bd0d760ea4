"""HTCondor on the access point; the only place that imports ``htcondor2``.

- ``bindings``: loads it when first needed, with a message where that cannot be.
- ``versions``: bindings that refuse older daemons, and what to do about it.
- ``refusals``: why a schedd does not take jobs, and what to do about it.
- ``discovery``, ``reachability``, ``shared_port_check``: where the shared port is, whether it
  answers, whether it serves this user.
- ``schedd``, ``event_log``, ``machines``, ``tail``: jobs submitted, followed and acted on;
  ads and events come back as plain Python values.
- ``submit_description``: descriptions as objects, quoted for every reader.
- ``personal``, ``standalone_pool``, ``own_pool``: a pool of the user's own, one that outlives
  its program, and when it is meant; its processes are in ``personal_pool``.
- ``worker_job``, ``manager_job``: the jobs that we submit.

Called by managers, factory, ``expose`` and command. Knows no manager but by its address, and
nothing of the factory.
"""
