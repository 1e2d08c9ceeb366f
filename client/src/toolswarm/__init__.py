"""Toolswarm's client: call the tools of a swarm, wait for results, and know what happened."""
