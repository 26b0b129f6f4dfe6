"""Images: read or downloaded, inspected, checked against the policy, and converted where needed."""
