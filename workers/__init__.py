"""The Celery app, the pools, and the run of one call from claim to finish."""
