"""The server's side of the record: database, tasks, series, logs, artifacts, access."""
