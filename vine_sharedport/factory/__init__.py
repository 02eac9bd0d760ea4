"""Workers that come, stay as long as they are needed, and are accounted for.

- ``api``: the ``Factory`` of programs; ``declarations`` has its options for type checkers.
- ``setup``, ``find``: before one starts; which one a name means.
- ``supervisor``: its two processes, each of which starts the other again.
- ``control``, ``child``: they are started and ended from outside; what a program has of them.
- ``loop``, ``demand``, ``submitter``, ``status``: one cycle after the other; how many workers
  are needed, what is submitted, what is shown. ``surplus`` takes back what is too much.
- ``leftovers``: jobs that an earlier factory has left.

Below: ``options`` (what the user wants), ``manager_view`` (what the manager says), ``jobs``
(what HTCondor has), ``submission`` (where jobs go), ``report`` (what it shows). Called by
programs, managers and the ``factory`` noun. Never imports ``ndcctools``.
"""

FACTORIES = "_shared_port_factories"
"""Attribute of a manager: the factories that were made for it."""

SHARE_LAN = "_shared_port_share_lan"
"""Method of a manager: to be told that all its workers share one LAN, and who says so."""
