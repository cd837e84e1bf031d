"""A model server for any MLflow model: Open Inference Protocol V2 and MLflow's own protocol.

Started as ``python -m pulumi_mlops.runtime.model_server``; the environment variables are those of
:mod:`pulumi_mlops.runtime.model_server.settings`.
"""
