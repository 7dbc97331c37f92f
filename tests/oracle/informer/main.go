// SPDX-License-Identifier: Apache-2.0

// informer is a client of the kind that other people write: a shared informer of client-go on Instances and a leader
// election by Lease, while it changes Instances at random and cuts its own connections. In the end it prints as JSON
// what its cache holds and what it did; a test compares that with a list.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

var (
	kubeconfig = flag.String("kubeconfig", "", "whom to speak to")
	namespace  = flag.String("namespace", "default", "whose Instances")
	churn      = flag.Duration("churn", time.Minute, "how long to change things")
	cutEvery   = flag.Duration("cut", 5*time.Second, "how often to cut the informer's connections")
	names      = flag.Int("names", 200, "how many Instances there are at most")
	writers    = flag.Int("writers", 4, "how many write at once")
	pause      = flag.Duration("pause", 5*time.Millisecond, "between two writes of one writer")
)

var instances = schema.GroupVersionResource{Group: "nacre.dev", Version: "v1alpha1", Resource: "instances"}

type report struct {
	Cache                   map[string]string `json:"cache"` // name to resourceVersion
	Writes, Failures, Cuts  int64
	Added, Updated, Deleted int64
	OutOfOrder              int64 // events of one object whose version did not grow
	Leaders                 []string
	Overlaps                int64 // somebody led while another did
	Equal                   bool  // the cache came to equal a list
	SecondsToEqual          float64
}

// cutter keeps the connections of a client, to close them under it.
type cutter struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func (c *cutter) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		c.mu.Lock()
		c.conns[conn] = struct{}{}
		c.mu.Unlock()
	}
	return conn, err
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		conn.Close()
	}
	clear(c.conns)
}

func config() *rest.Config {
	cfg, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		fail(err)
	}
	cfg.QPS, cfg.Burst = 10000, 10000
	return cfg
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "informer:", err)
	os.Exit(1)
}

// write does one change at random; what it changes may be there or not.
func write(ctx context.Context, c dynamic.ResourceInterface) error {
	name := fmt.Sprintf("churn-%d", rand.Intn(*names))
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var err error
	switch n := rand.Intn(10); {
	case n < 4:
		_, err = c.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "nacre.dev/v1alpha1", "kind": "Instance", "metadata": map[string]any{"name": name},
			"spec": map[string]any{"type": "small", "image": "debian"}}}, metav1.CreateOptions{})
	case n < 6:
		patch := fmt.Sprintf(`{"metadata":{"labels":{"n":"%d"}}}`, rand.Intn(100))
		_, err = c.Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	case n < 8:
		patch := fmt.Sprintf(`{"status":{"restarts":%d}}`, rand.Intn(100))
		_, err = c.Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	default:
		err = c.Delete(ctx, name, metav1.DeleteOptions{})
	}
	if errors.IsAlreadyExists(err) || errors.IsNotFound(err) {
		return nil
	}
	return err
}

// election runs one candidate until ctx ends.
func election(ctx context.Context, client kubernetes.Interface, identity string, leading *atomic.Int64, r *report,
	mu *sync.Mutex) {
	for ctx.Err() == nil {
		leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Name: "churn", Namespace: *namespace},
				Client: client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: identity}},
			LeaseDuration: 4 * time.Second, RenewDeadline: 3 * time.Second, RetryPeriod: 500 * time.Millisecond,
			ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(ctx context.Context) {
					if leading.Add(1) > 1 {
						atomic.AddInt64(&r.Overlaps, 1)
					}
					mu.Lock()
					r.Leaders = append(r.Leaders, identity)
					mu.Unlock()
					<-ctx.Done()
					leading.Add(-1)
				},
				OnStoppedLeading: func() {},
			},
		})
	}
}

func main() {
	flag.Parse()
	var r report
	var mu sync.Mutex
	cuts := &cutter{conns: map[net.Conn]struct{}{}}
	cfg := config()
	cfg.Dial = cuts.dial
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(dynamic.NewForConfigOrDie(cfg), 0, *namespace, nil)
	informer := factory.ForResource(instances).Informer()
	last := map[string]uint64{} // the handlers run in one goroutine
	version := func(o any) (*unstructured.Unstructured, uint64) {
		u := o.(*unstructured.Unstructured)
		var v uint64
		fmt.Sscan(u.GetResourceVersion(), &v)
		return u, v
	}
	seen := func(o any) {
		u, v := version(o)
		if v < last[u.GetName()] { // a new list may show the same once more
			r.OutOfOrder++
		}
		last[u.GetName()] = v
	}
	informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { r.Added++; seen(o) },
		UpdateFunc: func(_, o any) { r.Updated++; seen(o) },
		DeleteFunc: func(o any) { r.Deleted++ },
	})
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		fail(fmt.Errorf("the cache does not fill"))
	}

	// Two candidates; the first gives up half way.
	var leading atomic.Int64
	var candidates sync.WaitGroup
	for i, lasts := range []time.Duration{*churn / 2, *churn} {
		candidates.Add(1)
		go func() {
			defer candidates.Done()
			time.Sleep(time.Duration(i) * time.Second)
			ctx, cancel := context.WithTimeout(ctx, lasts)
			defer cancel()
			election(ctx, kubernetes.NewForConfigOrDie(config()), fmt.Sprintf("candidate-%d", i), &leading, &r, &mu)
		}()
	}

	end := time.Now().Add(*churn)
	var busy sync.WaitGroup
	for range *writers {
		busy.Add(1)
		go func() {
			defer busy.Done()
			c := dynamic.NewForConfigOrDie(config()).Resource(instances).Namespace(*namespace)
			for time.Now().Before(end) {
				if err := write(ctx, c); err != nil {
					atomic.AddInt64(&r.Failures, 1)
					time.Sleep(100 * time.Millisecond) // the server may be away
				} else {
					atomic.AddInt64(&r.Writes, 1)
				}
				time.Sleep(*pause)
			}
		}()
	}
	for time.Now().Add(*cutEvery).Before(end) {
		time.Sleep(*cutEvery)
		cuts.cut()
		r.Cuts++
	}
	busy.Wait()
	candidates.Wait()

	c := dynamic.NewForConfigOrDie(config()).Resource(instances).Namespace(*namespace)
	for began := time.Now(); !r.Equal && time.Since(began) < time.Minute; time.Sleep(50 * time.Millisecond) {
		list, err := c.List(ctx, metav1.ListOptions{})
		if err != nil {
			continue
		}
		r.Cache = map[string]string{}
		for _, o := range informer.GetStore().List() {
			u := o.(*unstructured.Unstructured)
			r.Cache[u.GetName()] = u.GetResourceVersion()
		}
		r.Equal = len(list.Items) == len(r.Cache)
		for _, o := range list.Items {
			r.Equal = r.Equal && r.Cache[o.GetName()] == o.GetResourceVersion()
		}
		r.SecondsToEqual = time.Since(began).Seconds()
	}
	if err := json.NewEncoder(os.Stdout).Encode(&r); err != nil {
		fail(err)
	}
}
