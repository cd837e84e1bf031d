"""What the plugin does on a cluster: wait, explain, and reach what has an address only there."""
