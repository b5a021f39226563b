"""One module per group of commands; each parses, makes one call and prints."""
