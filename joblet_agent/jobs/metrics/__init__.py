"""What jobs use of the host: sampled, kept, read, and summed up at the end."""
