"""Resources that live on this machine: environments, processes, routes, volumes and secrets."""
