"""Everything that we keep in Redis: keys, scripts, the call ledger, the catalogue, heartbeats."""
