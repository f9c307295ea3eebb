"""fleet.yaml and task.yaml: their models, how they are read, and what is said when they are wrong."""

from .compare import differences, needs_restart
from .fleet import FleetConfig
from .gpus import GpuWish
from .loader import load_fleet, load_task, parse_fleet, parse_task
from .problems import ConfigError, Problem
from .task import TaskSpec
from .units import Range

__all__ = [
    "ConfigError",
    "FleetConfig",
    "GpuWish",
    "Problem",
    "Range",
    "TaskSpec",
    "differences",
    "load_fleet",
    "load_task",
    "needs_restart",
    "parse_fleet",
    "parse_task",
]
