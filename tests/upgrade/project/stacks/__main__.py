"""The platform of one environment, as `Pulumi.<env>.yaml` describes it."""

import pulumi

import pulumi_mlops as mlops
from pulumi_mlops import config

platform = mlops.MlopsPlatform("platform", config.load())
platform.export()
pulumi.run(platform.registered)
