"""An artifact store, a tracking server on it, and a pipeline that records its runs there."""

import pulumi

import pulumi_mlops as mlops

config = pulumi.Config()

# The default `retain: True` keeps the data when the stack is destroyed. This example deletes it.
store = mlops.ArtifactStore("models", {"retain": False})
tracking = mlops.TrackingServer("tracking", {"artifact_store": store, "retain": False})
runner = mlops.TrainingRunner("runner", {"tracking": tracking, "timeout": 600})
line = mlops.Pipeline(
    "line",
    {
        "runner": runner,
        "source": "training",
        "parameters": {"points": config.get_int("points") or 200, "seed": 7},
    },
)

pulumi.export("tracking_url", tracking.url)
pulumi.export("artifact_store", store.uri)
pulumi.export("client_env", store.client_env)  # a secret: pulumi stack output --show-secrets
pulumi.export("line", line.outputs)
