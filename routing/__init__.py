"""From a request to its operation, tool and queue (pure rules that explain themselves), and the one producer."""
