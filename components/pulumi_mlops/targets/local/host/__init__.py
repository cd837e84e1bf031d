"""Processes, jobs, TCP ports and proxies on this machine."""
