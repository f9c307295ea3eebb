"""One tick: observe, plan, act. Clock, providers and thread pool are handed in."""
