"""The control plane: queue, planner, control loop, API, command line, composition root."""
