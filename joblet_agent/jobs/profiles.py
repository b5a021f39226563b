"""Which isolation profiles this node offers, and to whom."""

from dataclasses import dataclass

from joblet_agent.config import JobsConfig, ProfilesConfig
from joblet_agent.errors import InvalidRequest, NotOffered, NotPermitted
from joblet_agent.jobs.check import quoted
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.profile import Profile


@dataclass(frozen=True, slots=True)
class Profiles:
    """The profiles of a node. Asked when a job is accepted, and again when it starts."""

    jobs: JobsConfig
    """Names the profile of a job that names none."""
    switches: ProfilesConfig

    def admit(self, wanted: str, caller: Identity) -> Profile:
        """Return the profile that the caller's job gets.

        Raises InvalidRequest for a name that is none, NotOffered for one that is switched off here, and
        NotPermitted for ``privileged`` unless the caller's role is admin.
        """
        try:
            profile = Profile(wanted or self.jobs.default_profile)
        except ValueError:
            raise InvalidRequest(
                f"cannot run job: there is no profile {quoted(wanted)}",
                reason="UNKNOWN_PROFILE",
                hint="profiles are: " + ", ".join(Profile),
            ) from None
        require_permitted(profile, caller, "cannot run job", "leave --profile out, or use")
        self.require_offered(profile)
        return profile

    def require_offered(self, profile: Profile) -> None:
        """Raise NotOffered if the configuration has switched the profile off."""
        if not self.switches.offers(profile):
            raise NotOffered(
                f"cannot run job: the profile {profile} is switched off on this node",
                reason="PROFILE_NOT_OFFERED",
                hint=f"an administrator can set profiles.{profile}: true in the agent's configuration",
            )


def require_permitted(profile: str, caller: Identity, act: str, way_out: str = "use") -> None:
    """Raise NotPermitted unless the caller may bring such jobs about. The text begins with ``act``."""
    if profile == Profile.PRIVILEGED and caller.role is not Role.ADMIN:
        raise NotPermitted(
            f"{act}: role {caller.role} may not use the profile {profile}",
            reason="PROFILE_NOT_PERMITTED",
            hint=f"{way_out} an identity whose role is admin",
        )
