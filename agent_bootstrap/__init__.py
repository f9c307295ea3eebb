"""What happens on the machine: rendered user-data, the agent, the task runner."""
