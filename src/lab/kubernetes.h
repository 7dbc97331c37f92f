/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a lab on a real kube-apiserver needs in addition. It has no kube-controller-manager, so nothing empties a
 * deleted namespace, and nothing deletes objects by their owner references.
 */

#include "lab/lab.h"

#define LAB_ORACLE_DIR "/var/cache/nacre/oracle"

/* Checks that kube-apiserver, etcd and kubectl exist; the message says how to get them. */
int lab_kubernetes_check(const struct lab *lab, struct error *err) _must_use_;
/* Installs the CustomResourceDefinitions, roles and admission policies, and waits until the definitions are served. */
int lab_kubernetes_prepare(const struct lab *lab, struct error *err) _must_use_;
