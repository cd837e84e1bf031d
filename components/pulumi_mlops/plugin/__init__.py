"""The `mlops` resource plugin: the custom resources that no existing provider has."""
