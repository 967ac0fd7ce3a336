"""Writes verified versions, and the configuration files of the server."""
