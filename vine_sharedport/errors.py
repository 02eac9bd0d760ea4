"""Every exception that vine_sharedport raises on purpose.

The classes are divided by what the caller can do: drop one connection, correct
a setting, or stop. Each message names the value found, the value wanted and the
next step.
"""

from __future__ import annotations

__all__ = [
    "CedarError",
    "DialError",
    "DialTimeout",
    "DiscoveryError",
    "EndpointError",
    "GateError",
    "HandOffError",
    "HandOffTimeout",
    "HookError",
    "LaunchError",
    "MissingDependencyError",
    "PoolError",
    "SharedPortError",
    "SinfulError",
    "WrongSecretError",
]


class SharedPortError(Exception):
    """Base of every error below."""


class SinfulError(SharedPortError, ValueError):
    """The text is not an HTCondor address."""


class CedarError(SharedPortError):
    """The peer's bytes break the protocol."""


class GateError(SharedPortError):
    """The other side does not hold the manager's secret; drop the connection."""


class WrongSecretError(GateError):
    """The manager has another secret than we, or we have none; to try again is no use."""


class HandOffError(SharedPortError):
    """This one connection is lost; keep serving."""


class HandOffTimeout(HandOffError, TimeoutError):
    """The connection was not handed off before its deadline."""


class DialError(SharedPortError):
    """No candidate of the manager's address could be reached."""


class DialTimeout(DialError, TimeoutError):
    """The manager could not be reached before the deadline."""


class EndpointError(SharedPortError):
    """The endpoint cannot serve under this sock id."""


class HookError(SharedPortError):
    """The accept hook is not installed; the library is untouched."""


class LaunchError(SharedPortError):
    """A worker or a job did not start."""


class DiscoveryError(SharedPortError):
    """HTCondor's shared port, or its socket directory, cannot be used."""


class PoolError(SharedPortError):
    """The personal pool did not start, or is not there."""


class MissingDependencyError(SharedPortError, ImportError):
    """A library this function needs is not installed."""
