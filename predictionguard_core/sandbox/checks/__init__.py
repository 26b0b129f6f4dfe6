"""The checks for personal data, injection, toxicity and factuality."""
