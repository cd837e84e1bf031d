"""Programs that run inside what was provisioned; they import nothing of Pulumi."""
