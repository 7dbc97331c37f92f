# SPDX-License-Identifier: Apache-2.0
"""Python's client: creates, lists, watches, patches, waits for and deletes an Instance. Arguments: KUBECONFIG NAMESPACE NAME."""

import sys

from kubernetes import client, config, watch

kubeconfig, namespace, name = sys.argv[1:]
config.load_kube_config(kubeconfig)
api = client.CustomObjectsApi()
kind = {"group": "nacre.dev", "version": "v1alpha1", "namespace": namespace, "plural": "instances"}


def is_ready(o):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in o.get("status", {}).get("conditions", []))


version = api.list_namespaced_custom_object(**kind)["metadata"]["resourceVersion"]
api.create_namespaced_custom_object(**kind, body={
    "apiVersion": "nacre.dev/v1alpha1", "kind": "Instance", "metadata": {"name": name, "labels": {"client": name}},
    "spec": {"type": "small", "image": "debian"}})
assert len(api.list_namespaced_custom_object(**kind, label_selector=f"client={name}")["items"]) == 1
# By default the client sends a JSON Patch (the first type in api_client.py), but a dictionary is a merge patch.
api.api_client.set_default_header("Content-Type", "application/merge-patch+json")
api.patch_namespaced_custom_object(**kind, name=name, body={"spec": {"running": False}})
api.api_client.default_headers.pop("Content-Type")
for event in watch.Watch().stream(api.list_namespaced_custom_object, **kind, label_selector=f"client={name}",
                                  resource_version=version, timeout_seconds=300):
    print("event", event["type"], flush=True)
    if event["type"] == "DELETED":
        break
    if is_ready(event["object"]):
        api.delete_namespaced_custom_object(**kind, name=name)
else:
    sys.exit("no DELETED was seen")
print("done")
