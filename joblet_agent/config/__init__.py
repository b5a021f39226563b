"""The agent's configuration: one YAML file becomes frozen values, or an error that names every fault."""

from joblet_agent.config.load import DEFAULT_PATH, load_config
from joblet_agent.config.values import (
    AgentConfig,
    JobsConfig,
    LogLevel,
    LogsConfig,
    RetentionConfig,
    RpcConfig,
    SocketConfig,
)

__all__ = [
    "DEFAULT_PATH",
    "AgentConfig",
    "JobsConfig",
    "LogLevel",
    "LogsConfig",
    "RetentionConfig",
    "RpcConfig",
    "SocketConfig",
    "load_config",
]
