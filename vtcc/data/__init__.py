"""Where images come from, what they must be like, and the cache that training reads."""
