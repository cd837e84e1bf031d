"""Buckets over boto3: what the plugin does from outside, and a Job from within a cluster."""
