"""Who is calling, and what a role may do."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Roles by their text in certificates and in the configuration."""

    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"


class Permission(StrEnum):
    """What a method needs."""

    READ = "read"
    FILES = "read files"
    """Read what is in the files of jobs."""
    RUN = "run"
    MANAGE = "manage"
    INSPECT = "inspect"
    """Ask the API about itself."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller that has been authenticated."""

    name: str
    role: Role


_GRANTED = {
    Role.ADMIN: frozenset(
        {Permission.READ, Permission.FILES, Permission.RUN, Permission.MANAGE, Permission.INSPECT}
    ),
    Role.OPERATOR: frozenset({Permission.READ, Permission.FILES, Permission.RUN}),
    Role.VIEWER: frozenset({Permission.READ}),
}


def allows(role: Role, permission: Permission, *, viewer_files: bool = False) -> bool:
    """Say whether the role has the permission; ``viewer_files`` is what the node allows viewers."""
    if permission is Permission.FILES and role is Role.VIEWER:
        return viewer_files
    return permission in _GRANTED[role]
