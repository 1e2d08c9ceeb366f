"""What the tools do, and how an operation is declared; imported by workers only."""
