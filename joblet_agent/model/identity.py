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
    RUN = "run"
    MANAGE = "manage"


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller that has been authenticated."""

    name: str
    role: Role


_GRANTED = {
    Role.ADMIN: frozenset({Permission.READ, Permission.RUN, Permission.MANAGE}),
    Role.OPERATOR: frozenset({Permission.READ, Permission.RUN}),
    Role.VIEWER: frozenset({Permission.READ}),
}


def allows(role: Role, permission: Permission) -> bool:
    """Say whether the role has the permission."""
    return permission in _GRANTED[role]
