"""The `mlops` resource plugin: custom resources that no existing provider has."""
