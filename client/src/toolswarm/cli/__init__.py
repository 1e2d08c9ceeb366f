"""The command `toolswarm`; each command lies in its own module and is imported only when it runs."""
