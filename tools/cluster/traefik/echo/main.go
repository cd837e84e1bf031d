// A server that says which version it is, as a model server does, for tests of routes.
//
// It keeps connections open, and ends them as it stops. With READY=no it never becomes ready.
package main

import (
	"context"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if os.Getenv("READY") == "no" {
			http.Error(w, "loading", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("x-model-version", os.Getenv("VERSION"))
		w.Header().Set("x-served-by", os.Getenv("POD"))
		_, _ = w.Write(body)
	})
	server := &http.Server{Addr: ":" + os.Getenv("PORT"), Handler: mux, IdleTimeout: 2 * time.Minute}
	told, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		if err := server.ListenAndServe(); err != http.ErrServerClosed {
			log.Fatal(err)
		}
	}()
	<-told.Done()
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = server.Shutdown(ending)
}
