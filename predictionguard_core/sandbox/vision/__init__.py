"""What the sandbox sees of an image."""
