"""What people look at: the state of a run as rows, tables in a terminal, and the same as plain text."""
