"""TCP ports of the proxies of a route, shared by the adapter and the resource plugin."""

PROXY_HTTP_PORT = 8080
PROXY_METRICS_PORT = 8081
PROXY_STATE_PORT = 8082
