"""The command line: a click command for each verb, and nothing heavy imported before one runs."""
