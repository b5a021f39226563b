"""The agent's configuration: one YAML file becomes frozen values, or an error that names every fault."""

from joblet_agent.config.load import DEFAULT_PATH, load_config
from joblet_agent.config.values import (
    AgentConfig,
    DefaultsConfig,
    JobsConfig,
    LimitsConfig,
    LogLevel,
    LogsConfig,
    MaximaConfig,
    ProfilesConfig,
    RetentionConfig,
    RpcConfig,
    SchedulesConfig,
    SocketConfig,
    Unenforced,
    UploadsConfig,
)

__all__ = [
    "DEFAULT_PATH",
    "AgentConfig",
    "DefaultsConfig",
    "JobsConfig",
    "LimitsConfig",
    "LogLevel",
    "LogsConfig",
    "MaximaConfig",
    "ProfilesConfig",
    "RetentionConfig",
    "RpcConfig",
    "SchedulesConfig",
    "SocketConfig",
    "Unenforced",
    "UploadsConfig",
    "load_config",
]
