// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package oracle names the programs that tests compare Nacre with, so that go.mod keeps what they need.
package oracle

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
