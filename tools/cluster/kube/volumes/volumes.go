// Package volumes makes a folder of the node for each claim of the default storage class.
//
// kube-controller-manager's own hostpath provisioner makes folders that only root can write, in
// one place for the whole machine; these any user of a pod can write, and they lie in the node's
// own state. The volume is bound by the controller manager, which finds it by its claimRef.
package volumes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	core "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// Provisioner is the name by which a StorageClass asks for these volumes.
const Provisioner = "pulumi-mlops.dev/node-folder"

const (
	provisionedBy = "pv.kubernetes.io/provisioned-by"
	selectedNode  = "volume.kubernetes.io/selected-node"
	recheck       = 10 * time.Second // a claim that waits for its pod, a release that failed
)

type provisioner struct {
	client  kubernetes.Interface
	folder  string
	node    string
	shared  informers.SharedInformerFactory
	changed chan struct{}
}

// NewCommand is the program: it runs until it is ended.
func NewCommand() *cobra.Command {
	var kubeconfig, folder, node string
	command := &cobra.Command{
		Use:  "node-volumes",
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
			return run(command.Context(), client, folder, node)
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server")
	command.Flags().StringVar(&folder, "folder", "", "where the volumes lie on the node")
	command.Flags().StringVar(&node, "node", "", "the node's name")
	return command
}

func run(ctx context.Context, client kubernetes.Interface, folder, node string) error {
	if ctx == nil {
		ctx = context.Background()
	}
	p := &provisioner{
		client:  client,
		folder:  folder,
		node:    node,
		shared:  informers.NewSharedInformerFactory(client, 0),
		changed: make(chan struct{}, 1),
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { p.wake() },
		UpdateFunc: func(any, any) { p.wake() },
		DeleteFunc: func(any) { p.wake() },
	}
	for _, informer := range []cache.SharedIndexInformer{
		p.shared.Core().V1().PersistentVolumeClaims().Informer(),
		p.shared.Core().V1().PersistentVolumes().Informer(),
		p.shared.Storage().V1().StorageClasses().Informer(),
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	p.shared.Start(ctx.Done())
	p.shared.WaitForCacheSync(ctx.Done())
	for {
		if err := p.pass(ctx); err != nil {
			klog.ErrorS(err, "will be tried again")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.changed:
		case <-time.After(recheck):
		}
	}
}

func (p *provisioner) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *provisioner) pass(ctx context.Context) error {
	claims, err := p.shared.Core().V1().PersistentVolumeClaims().Lister().List(labels.Everything())
	if err != nil {
		return err
	}
	var failed error
	for _, claim := range claims {
		if claim.Spec.VolumeName == "" && claim.DeletionTimestamp == nil {
			if err := p.provision(ctx, claim); err != nil {
				failed = fmt.Errorf("claim %s/%s: %w", claim.Namespace, claim.Name, err)
			}
		}
	}
	volumes, err := p.shared.Core().V1().PersistentVolumes().Lister().List(labels.Everything())
	if err != nil {
		return err
	}
	for _, volume := range volumes {
		if err := p.release(ctx, volume); err != nil {
			failed = fmt.Errorf("volume %s: %w", volume.Name, err)
		}
	}
	return failed
}

func (p *provisioner) provision(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	if claim.Spec.StorageClassName == nil || *claim.Spec.StorageClassName == "" {
		return nil
	}
	class, err := p.shared.Storage().V1().StorageClasses().Lister().Get(*claim.Spec.StorageClassName)
	if errors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if class.Provisioner != Provisioner {
		return nil
	}
	waits := class.VolumeBindingMode != nil && *class.VolumeBindingMode == storage.VolumeBindingWaitForFirstConsumer
	if waits && claim.Annotations[selectedNode] == "" {
		return nil
	}
	name := "pvc-" + string(claim.UID)
	if _, err := p.shared.Core().V1().PersistentVolumes().Lister().Get(name); err == nil {
		return nil // made already, and not yet bound
	}
	path := filepath.Join(p.folder, name)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o777); err != nil { // whatever the umask is
		return err
	}
	kind, policy := core.HostPathDirectory, core.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	_, err = p.client.CoreV1().PersistentVolumes().Create(ctx, &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{provisionedBy: Provisioner},
		},
		Spec: core.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			PersistentVolumeReclaimPolicy: policy,
			StorageClassName:              class.Name,
			VolumeMode:                    claim.Spec.VolumeMode,
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeSource: core.PersistentVolumeSource{
				HostPath: &core.HostPathVolumeSource{Path: path, Type: &kind},
			},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{
				NodeSelectorTerms: []core.NodeSelectorTerm{{
					MatchExpressions: []core.NodeSelectorRequirement{{
						Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{p.node},
					}},
				}},
			}},
		},
	}, meta.CreateOptions{})
	if errors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (p *provisioner) release(ctx context.Context, volume *core.PersistentVolume) error {
	if volume.Annotations[provisionedBy] != Provisioner || volume.Status.Phase != core.VolumeReleased ||
		volume.Spec.PersistentVolumeReclaimPolicy != core.PersistentVolumeReclaimDelete {
		return nil
	}
	if volume.Spec.HostPath == nil || volume.Spec.HostPath.Path != filepath.Join(p.folder, volume.Name) {
		return fmt.Errorf("it is not a folder of %s", p.folder)
	}
	if err := os.RemoveAll(volume.Spec.HostPath.Path); err != nil {
		return err
	}
	err := p.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{})
	if errors.IsNotFound(err) {
		return nil
	}
	return err
}
