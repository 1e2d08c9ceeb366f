"""What speaks HTTP to the outside: authenticate, submit, wait, and answer every error as a problem document."""
