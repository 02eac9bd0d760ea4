"""Workers that come, stay as long as they are needed, and are accounted for."""
