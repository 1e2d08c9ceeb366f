"""The schedule: what must be done every so often, by one leader."""
