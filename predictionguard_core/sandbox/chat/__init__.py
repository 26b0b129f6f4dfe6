"""The chat and completion endpoints of the sandbox."""
