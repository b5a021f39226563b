"""The command line of Joblet. Of the agent it imports the wire messages alone (``joblet_agent.pb``)."""

from joblet_agent import __version__ as __version__
