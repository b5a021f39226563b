"""What a system holds: files, mounts, units, control groups, links, rules, users."""

from tests.testbed.guest import Guest

# Left out is what changes with any package: logs, what dpkg and apt know, and what systemd makes for itself
# when it first needs it. Loop devices are those of all machines.
_LIST = r"""
find / -xdev '(' -path /root -o -path /tmp -o -path /var/tmp -o -path /var/log \
    -o -path /var/cache -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/lib/systemd/random-seed \
    -o -path /etc/.pwd.lock -o -path '/etc/group*' -o -path '/etc/gshadow*' -o -path '/etc/passwd*' \
    -o -path '/etc/shadow*' -o -path '/etc/subuid*' -o -path '/etc/subgid*' ')' -prune \
    -o -printf 'file %p %y %m %U:%G %l\n'
find /run '(' -path '/run/systemd/*' -o -path /run/udev -o -path /run/utmp ')' -prune \
    -o -printf 'file %p %y %m\n'
find /run/systemd -name '*joblet*' -printf 'file %p\n'
find /var/lib/dpkg/info /var/lib/systemd /var/cache/debconf -name '*joblet*' -printf 'file %p\n'
cut -d' ' -f5,9- /proc/self/mountinfo | sed 's/^/mount /'
systemctl list-units --all --plain --no-legend | awk '/joblet-|joblet[.]/ { print "unit", $1, $2, $3, $4 }'
systemctl list-unit-files --no-legend | awk '/joblet/ { print "unit file", $1 }'
find /sys/fs/cgroup -type d -name '*joblet*' -printf 'group %p\n'
nft list ruleset | sed 's/^/rule /'
ls /sys/class/net | sed 's/^/link /'
getent passwd | sed 's/^/user /'
getent group | sed 's/^/group /'
sed 's/^/subordinate /' /etc/subuid /etc/subgid
debconf-show joblet-agent 2>/dev/null | sed 's/^/answer /'
ps -eo args= | grep '[j]oblet' | sed 's/^/process /'
true
"""


def traces(guest: Guest) -> set[str]:
    """Return a line for each thing."""
    return set(guest.run("sh", "-c", _LIST).stdout.splitlines())
