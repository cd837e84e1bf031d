"""Images: what an environment becomes where programs run in containers.

One Dockerfile serves every Python environment. `context` writes the folder that it is built from,
`catalog` keeps those of a stack, `engine` has docker, podman or nerdctl build them. None of this
needs Pulumi: a reference is known from the recipe alone, before anything is built.
"""
