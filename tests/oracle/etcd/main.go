// SPDX-License-Identifier: Apache-2.0

// etcd, as a store for the kube-apiserver that tests compare with: its own command is in a module that `go build`
// refuses to take from the module proxy.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
