"""What Toolswarm costs, measured beside the task queues that people would use instead."""
