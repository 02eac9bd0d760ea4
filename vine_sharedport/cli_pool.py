"""How the commands that need HTCondor find the user's own pool."""

from __future__ import annotations

import argparse
import os

__all__ = ["add_no_own_pool", "choose_pool"]


def add_no_own_pool(parser: argparse.ArgumentParser) -> None:
    """Add the option to a command's parser."""
    parser.add_argument(
        "--no-own-pool",
        action="store_true",
        help="use the system's HTCondor even if a pool runs that 'vine_sharedport pool start' "
        "has started; CONDOR_CONFIG wins over both",
    )


def choose_pool(options: argparse.Namespace, *, elsewhere: bool = False) -> None:
    """Use the user's own pool, or by the option do not, here and in what is started.

    Args:
        options: The command's.
        elsewhere: The user has named another schedd or collector, which knows the system's
            ways to prove who we are, and not those of a pool for one user.
    """
    from vine_sharedport.pool._pool_place import OWN_POOL_VARIABLE
    from vine_sharedport.pool.own_pool import use_own_pool

    if options.no_own_pool or elsewhere:
        os.environ[OWN_POOL_VARIABLE] = "no"
    use_own_pool(first=True)
