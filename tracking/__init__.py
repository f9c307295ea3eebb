"""The record: the light SDK lies here, the server's side under tracking/server."""
