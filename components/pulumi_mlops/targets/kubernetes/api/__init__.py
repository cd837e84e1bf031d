"""Access to the API of a cluster: requests, tunnels, and explanations of failures."""
