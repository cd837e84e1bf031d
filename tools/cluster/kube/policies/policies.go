// Package policies enforces NetworkPolicies on the node, by rules of iptables.
//
// All rules are written anew, in one step, whenever a pod, a namespace or a policy changes. They are
// in the mangle table's FORWARD, where packets between pods come by after a service's address has
// been replaced, and which kube-proxy leaves alone. What the node itself sends (probes) is let
// through, as the API demands.
package policies

import (
	"context"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	recheck = 30 * time.Second // should the rules be gone
	settle  = 50 * time.Millisecond
)

// NewCommand is the program: it runs until it is ended.
func NewCommand() *cobra.Command {
	var kubeconfig string
	command := &cobra.Command{
		Use:  "node-policies",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return err
			}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			return run(context.Background(), client)
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server")
	return command
}

func run(ctx context.Context, client kubernetes.Interface) error {
	changed := make(chan struct{}, 1)
	wake := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { wake() },
		UpdateFunc: func(any, any) { wake() },
		DeleteFunc: func(any) { wake() },
	}
	shared := informers.NewSharedInformerFactory(client, 0)
	pods := shared.Core().V1().Pods()
	namespaces := shared.Core().V1().Namespaces()
	policies := shared.Networking().V1().NetworkPolicies()
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), namespaces.Informer(), policies.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	shared.Start(ctx.Done())
	shared.WaitForCacheSync(ctx.Done())
	written := ""
	for {
		now := cluster{namespaces: map[string]labels.Set{}}
		var err error
		if now.pods, err = pods.Lister().List(labels.Everything()); err != nil {
			return err
		}
		if now.policies, err = policies.Lister().List(labels.Everything()); err != nil {
			return err
		}
		listed, err := namespaces.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		for _, namespace := range listed {
			now.namespaces[namespace.Name] = namespace.Labels
		}
		if rules := now.rules(); rules != written || !hooked() {
			if err := write(rules); err != nil {
				klog.ErrorS(err, "will be tried again")
				written = ""
				time.Sleep(time.Second)
				wake()
			} else {
				written = rules
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			time.Sleep(settle)
		case <-time.After(recheck):
		}
	}
}

func hooked() bool {
	return exec.Command("iptables", "-w", "-t", "mangle", "-C", "FORWARD", "-j", main).Run() == nil
}

// write replaces every rule of an earlier write.
func write(rules string) error {
	saved, err := exec.Command("iptables-save", "-t", "mangle").Output()
	if err != nil {
		return err
	}
	declared, removed := "", ""
	for line := range strings.Lines(string(saved)) {
		chain, _, _ := strings.Cut(strings.TrimPrefix(line, ":"), " ")
		if strings.HasPrefix(line, ":"+prefix) && !strings.Contains(rules, ":"+chain+" ") {
			declared += ":" + chain + " - [0:0]\n"
			removed += "-X " + chain + "\n"
		}
	}
	restore := exec.Command("iptables-restore", "-w", "--noflush")
	restore.Stdin = strings.NewReader("*mangle\n" + declared + rules + removed + "COMMIT\n")
	if output, err := restore.CombinedOutput(); err != nil {
		klog.InfoS("iptables-restore failed", "output", string(output))
		return err
	}
	if hooked() {
		return nil
	}
	return exec.Command("iptables", "-w", "-t", "mangle", "-I", "FORWARD", "-j", main).Run()
}
