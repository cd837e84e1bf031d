"""A classifier of penguin species, from raw data to a registered model."""
