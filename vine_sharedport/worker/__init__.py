"""What runs on the execute point; standard library only, from one file."""
