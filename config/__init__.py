"""fleet.yaml and task.yaml: models, loader, JSON Schema, defaults. Knows nothing of the other folders."""
