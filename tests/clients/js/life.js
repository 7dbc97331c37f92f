// SPDX-License-Identifier: Apache-2.0
// @kubernetes/client-node: creates, lists, watches, patches, waits for and deletes an Instance.
// Arguments: KUBECONFIG NAMESPACE NAME.

import * as k8s from "@kubernetes/client-node";

const [, , kubeconfig, namespace, name] = process.argv;
const config = new k8s.KubeConfig();
config.loadFromFile(kubeconfig);
const api = config.makeApiClient(k8s.CustomObjectsApi);
const kind = { group: "nacre.dev", version: "v1alpha1", namespace, plural: "instances" };

const isReady = (o) => o.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True");
let ready, deleted;
const whenReady = new Promise((resolve) => (ready = resolve));
const whenDeleted = new Promise((resolve) => (deleted = resolve));

const { metadata } = await api.listNamespacedCustomObject(kind);
const watch = await new k8s.Watch(config).watch(
	`/apis/nacre.dev/v1alpha1/namespaces/${namespace}/instances`,
	{ labelSelector: `client=${name}`, resourceVersion: metadata.resourceVersion },
	(type, o) => {
		console.log("event", type);
		if (type !== "DELETED" && isReady(o)) ready();
		if (type === "DELETED") deleted();
	},
	(err) => {
		if (err && err.name !== "AbortError") console.log("watch", err);
	},
);

await api.createNamespacedCustomObject({
	...kind,
	body: {
		apiVersion: "nacre.dev/v1alpha1",
		kind: "Instance",
		metadata: { name, labels: { client: name } },
		spec: { type: "small", image: "debian" },
	},
});
const list = await api.listNamespacedCustomObject({ ...kind, labelSelector: `client=${name}` });
if (list.items.length !== 1) throw new Error("the list has not one Instance");
await api.patchNamespacedCustomObject(
	{ ...kind, name, body: { spec: { running: false } } },
	k8s.setHeaderOptions("Content-Type", k8s.PatchStrategy.MergePatch),
);
await whenReady;
await api.deleteNamespacedCustomObject({ ...kind, name });
await whenDeleted;
watch.abort();
console.log("done");
