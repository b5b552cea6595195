"""Redis: connections, retried posts, Cluster and Sentinel routing, the epoch check, pub/sub."""
