"""MCP at /mcp: both eras on one endpoint, the catalogue as tools, calls as durable tasks."""
