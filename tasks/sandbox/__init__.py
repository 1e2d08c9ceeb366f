"""What keeps a command in: its limits, its sandbox, and the processes that see that nothing of it is left.

The modules here run in processes of their own, started with `-I -S`: they use the standard library alone.
"""
