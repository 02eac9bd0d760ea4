"""What shows that tests fail without the mend that they are for: ``tests/prove/revert.py``."""
