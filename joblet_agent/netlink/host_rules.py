"""What other firewalls of the host keep from our networks, for one who only looks. For root."""

import json
from collections.abc import Sequence

from nftables import Nftables

from joblet_agent.netlink.other_firewalls import obstacles


def host_obstacles(bridges: Sequence[str]) -> Sequence[str]:
    """Return a sentence for each chain in the way of the bridges. Raises OSError with the kernel's words."""
    library = Nftables()
    library.set_json_output(True)
    status, output, error = library.cmd("list ruleset")
    if status != 0:
        raise OSError(f"cannot read the rules of the host: {' '.join(str(error).split())}")
    return obstacles(json.loads(output)["nftables"] if output else (), bridges)
