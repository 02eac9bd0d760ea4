"""The only code that writes to memory we do not own: one library's import slots."""
