"""The MCP servers that others use for files and commands, measured beside our tool `desktop`."""
