// Gives claims their volumes: folders below one directory of the host, removed after the claim.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	core "k8s.io/api/core/v1"
	errors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

type provisioner struct {
	client            kubernetes.Interface
	class, root, node string
}

// claim makes the folder and the volume of a claim that has none; the API server refuses a second volume by its name.
func (p provisioner) claim(ctx context.Context, claim *core.PersistentVolumeClaim) {
	if claim.Spec.StorageClassName == nil || *claim.Spec.StorageClassName != p.class || claim.Spec.VolumeName != "" {
		return
	}
	name := "claim-" + string(claim.UID)
	path := filepath.Join(p.root, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		log.Print(err)
		return
	}
	here := core.NodeSelectorRequirement{
		Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{p.node},
	}
	volume := &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name},
		Spec: core.PersistentVolumeSpec{
			StorageClassName:              p.class,
			PersistentVolumeReclaimPolicy: core.PersistentVolumeReclaimRetain, // the claim's end is handled below
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      claim.Spec.Resources.Requests,
			ClaimRef: &core.ObjectReference{
				Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			// A local volume, not a hostPath: the kubelet gives it to the pod's fsGroup.
			PersistentVolumeSource: core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: path}},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{
				NodeSelectorTerms: []core.NodeSelectorTerm{{MatchExpressions: []core.NodeSelectorRequirement{here}}},
			}},
		},
	}
	_, err := p.client.CoreV1().PersistentVolumes().Create(ctx, volume, meta.CreateOptions{})
	if err != nil && !errors.IsAlreadyExists(err) {
		log.Print(err)
	}
}

// release removes a volume, folder first, whose claim is gone.
func (p provisioner) release(ctx context.Context, volume *core.PersistentVolume) {
	if volume.Spec.StorageClassName != p.class || volume.Status.Phase != core.VolumeReleased {
		return
	}
	if err := os.RemoveAll(filepath.Join(p.root, volume.Name)); err != nil {
		log.Print(err)
		return
	}
	err := p.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{})
	if err != nil && !errors.IsNotFound(err) {
		log.Print(err)
	}
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the cluster")
	class := flag.String("class", "folders", "the storage class served")
	root := flag.String("root", "", "where the folders are made")
	node := flag.String("node", "", "the node's name")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	p := provisioner{kubernetes.NewForConfigOrDie(config), *class, *root, *node}
	factory := informers.NewSharedInformerFactory(p.client, 0)
	claim := func(object any) {
		if claim, ok := object.(*core.PersistentVolumeClaim); ok {
			p.claim(ctx, claim)
		}
	}
	release := func(object any) {
		if volume, ok := object.(*core.PersistentVolume); ok {
			p.release(ctx, volume)
		}
	}
	for informer, handle := range map[cache.SharedIndexInformer]func(any){
		factory.Core().V1().PersistentVolumeClaims().Informer(): claim,
		factory.Core().V1().PersistentVolumes().Informer():      release,
	} {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: handle, UpdateFunc: func(_, object any) { handle(object) },
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	factory.Shutdown()
}
