/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A lab on a real kube-apiserver: what Nacre needs to be told to it. There is no kube-controller-manager, so nothing
 * empties a namespace that is deleted, and nobody follows owner references.
 */

#include "lab/lab.h"

#define LAB_ORACLE_DIR "/var/cache/nacre/oracle"

/* kube-apiserver, etcd and kubectl are there; else the message says how to get them. */
int lab_kubernetes_check(const struct lab *lab, struct error *err) _must_use_;
/* Installs the CustomResourceDefinitions, roles and admission policies, and waits until the former are served. */
int lab_kubernetes_prepare(const struct lab *lab, struct error *err) _must_use_;
