"""The commands for a stack whose target is a cluster."""
