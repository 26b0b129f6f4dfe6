"""Everything that touches httpx: transports, shared clients, timeouts, error mapping, size limits."""
