#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# kubectl: creates, lists, patches, waits for, shows and deletes an Instance. Arguments: KUBECONFIG NAMESPACE NAME.
set -eu
export KUBECONFIG="$1" ns="$2" name="$3"

kubectl apply -n "$ns" -f - <<EOF
apiVersion: nacre.dev/v1alpha1
kind: Instance
metadata:
  name: $name
  labels: {client: $name}
spec:
  type: small
  image: debian
  ingress:
  - {protocol: tcp, port: 443}
EOF
kubectl get instances -n "$ns" -l "client=$name"
kubectl patch instance "$name" -n "$ns" --type=merge -p '{"spec":{"running":false}}'
kubectl wait instance "$name" -n "$ns" --for=condition=Ready --timeout=5m
kubectl get instance "$name" -n "$ns" -o jsonpath='{.status.conditions[?(@.type=="Ready")].reason}'
kubectl explain instance.spec.ingress
kubectl delete instance "$name" -n "$ns"
