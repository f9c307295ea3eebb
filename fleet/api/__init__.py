"""The REST API: thin routes that write rows, wake the loop and read back. No cloud is called on the main path."""
