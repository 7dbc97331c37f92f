// SPDX-License-Identifier: Apache-2.0

// controller-runtime: creates, lists, watches, patches, waits for and deletes an Instance, which a controller of the same
// program sees in its cache. Arguments: KUBECONFIG NAMESPACE NAME.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

var kind = schema.GroupVersionKind{Group: "nacre.dev", Version: "v1alpha1", Kind: "Instance"}

func instance() *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(kind)
	return o
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func ready(o *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		m := c.(map[string]any)
		if m["type"] == "Ready" && m["status"] == "True" {
			return true
		}
	}
	return false
}

func main() {
	namespace, name := os.Args[2], os.Args[3]
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	ctrl.SetLogger(logr.Discard())
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	must(err)

	manager, err := ctrl.NewManager(config, ctrl.Options{Metrics: server.Options{BindAddress: "0"}})
	must(err)
	isReady, isGone := make(chan bool, 100), make(chan bool, 100)
	see := reconcile.Func(func(ctx context.Context, r ctrl.Request) (ctrl.Result, error) {
		o := instance()
		err := manager.GetClient().Get(ctx, r.NamespacedName, o)
		if r.Name == name && apierrors.IsNotFound(err) {
			isGone <- true
		} else if r.Name == name && err == nil && ready(o) {
			isReady <- true
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	})
	must(ctrl.NewControllerManagedBy(manager).For(instance()).Complete(see))
	go func() { must(manager.Start(ctx)) }()
	if !manager.GetCache().WaitForCacheSync(ctx) {
		log.Fatal("the cache does not become whole")
	}

	c, err := client.NewWithWatch(config, client.Options{})
	must(err)
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind("InstanceList"))
	ours := []client.ListOption{client.InNamespace(namespace), client.MatchingLabels{"client": name}}
	events, err := c.Watch(ctx, list, ours...)
	must(err)

	o := instance()
	o.SetNamespace(namespace)
	o.SetName(name)
	o.SetLabels(map[string]string{"client": name})
	o.Object["spec"] = map[string]any{"type": "small", "image": "debian"}
	must(c.Create(ctx, o))
	must(c.List(ctx, list, ours...))
	if len(list.Items) != 1 {
		log.Fatal("the list has not one Instance")
	}
	before := o.DeepCopy()
	must(unstructured.SetNestedField(o.Object, false, "spec", "running"))
	must(c.Patch(ctx, o, client.MergeFrom(before)))
	select {
	case <-isReady:
	case <-ctx.Done():
		log.Fatal("never ready")
	}
	must(c.Delete(ctx, o))
	for event := range events.ResultChan() {
		if event.Type == watch.Error {
			log.Fatal("watch: ", apierrors.FromObject(event.Object))
		}
		fmt.Println("event", event.Type)
		if event.Type == watch.Deleted {
			break
		}
	}
	select {
	case <-isGone:
	case <-ctx.Done():
		log.Fatal("the controller never saw it go")
	}
	fmt.Println("done")
}
