// Package ext stands for a part of Traefik's module that no release of it contains: what a
// distribution of Traefik adds to its configuration.
package ext

// HTTP is added to the configuration of HTTP.
type HTTP struct{}

// Router is added to that of a router.
type Router struct{}
