"""``joblet-agent check``: is this host fit for the agent, and what exactly is missing. It changes nothing."""
