"""TaskVine's and Work Queue's own questions and answers.

``query`` connects as a status program does, with secret, password and TLS, and returns what the
manager says of itself, its workers and tasks; ``tls`` wraps a connection and leaves none open.
Called by the factory's monitor. Knows no HTCondor and does not import ``ndcctools``.
"""
