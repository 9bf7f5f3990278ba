"""The `algo` command: thin, and quick to say what it can do."""
