"""A stand-in for the official pulumi-kubernetes plugin, where that one cannot be downloaded.

It speaks the resource types of the `pulumi_kubernetes` SDK against a real API server and behaves as
the official plugin (4.34) does in what this project uses. Tests use it; the product never does.
"""
