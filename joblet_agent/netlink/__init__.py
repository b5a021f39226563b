"""Networks of jobs in the kernel: a small privileged service, and the agent's side of its socket.

``python3 -m joblet_agent.netlink`` (units/joblet-networks.service) does the work; only it imports pyroute2
and nftables, and it never imports gRPC. The agent imports ``client`` alone, and what that shares with the
service: ``wire`` and ``names``.
"""
