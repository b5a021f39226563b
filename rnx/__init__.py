"""The command line of Joblet. Of the agent it imports the wire messages alone (``joblet_agent.pb``)."""

__version__ = "0.1.0"
