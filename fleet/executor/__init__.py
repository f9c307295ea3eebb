"""Effects on clouds: the intent is committed first, then the call, then what came back is recorded."""
