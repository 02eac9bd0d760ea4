"""The client's half of the link: from a manager's address to a connected socket.

- ``candidates``: which host and port to try, in which order.
- ``race``: TCP to the first of them that answers.
- ``dial``: CONNECT and gate over it, and the verdict on each candidate.
- ``backoff``: when to try again, when to give up.
- ``explain``: the same with a record of each step.
- ``relay``: a local port behind which the manager stands.

Called on both sides: by the relay on the execute point; by factory, doctor and ``connect`` on
the access point. The shim does the same in C. Knows neither HTCondor's bindings nor
``ndcctools``.
"""
