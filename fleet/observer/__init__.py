"""What the world says, brought into the store: listings of the clouds, words of the agents."""
