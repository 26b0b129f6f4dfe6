"""The document endpoint of the sandbox."""
