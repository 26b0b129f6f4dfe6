"""The sandbox's socket, and the faults that can be scripted."""
