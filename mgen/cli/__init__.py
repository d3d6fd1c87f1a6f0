"""The command line: one module a command, and the only place in mgen that knows rewards and critics."""
