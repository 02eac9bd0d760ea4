"""The parts of benchmarks/datapath.py."""
