# SPDX-License-Identifier: Apache-2.0
"""Discovery and OpenAPI: all kinds of Nacre, and those kinds of Kubernetes that nacre-apiserver has too."""

CORE = {"namespaces", "events", "secrets", "configmaps", "serviceaccounts"}
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


def resources(body):
    """Sorted by name, without the hash of the storage version."""
    kept = [{k: sorted(v) if k == "verbs" else v for k, v in r.items() if k != "storageVersionHash"} for r in body["resources"]]
    return {**body, "resources": sorted(kept, key=lambda r: r["name"])}


def core(body):
    return [{k: v for k, v in r.items() if k in ("name", "kind", "namespaced", "shortNames", "singularName")}
            for r in resources(body)["resources"] if r["name"] in CORE]


def ours(body):
    """The group's entry in aggregated discovery."""
    group = next(i for i in body["items"] if i["metadata"].get("name") == "nacre.dev")
    for v in group["versions"]:
        for r in v["resources"]:
            for x in [r, *r.get("subresources", [])]:
                x["verbs"] = sorted(x["verbs"])
    versions = [{**v, "resources": sorted(v["resources"], key=lambda r: r["resource"])} for v in group["versions"]]
    return {"kind": body["kind"], "apiVersion": body["apiVersion"],
            "versions": [{k: v for k, v in x.items() if k != "freshness"} for x in versions]}


def shapes(body):
    """The operations of our paths with their parameters, and the schema of one kind's spec."""
    schemas = body["components"]["schemas"]
    instance = schemas["dev.nacre.v1alpha1.Instance"]
    return {"gvk": instance["x-kubernetes-group-version-kind"], "spec": sorted(instance["properties"]["spec"]["properties"]),
            "required": instance["properties"]["spec"].get("required")}


def topic(t):
    t.get("$G", only=resources)
    t.get("/apis/nacre.dev")
    t.get("/apis", only=lambda b: [g for g in b["groups"] if g["name"] == "nacre.dev"])
    t.get("/api", only=lambda b: b["versions"])
    t.get("/api/v1", only=core)
    t.get("/apis/coordination.k8s.io/v1", only=lambda b: [r["name"] for r in b["resources"] if r["name"] == "leases"])
    t.get("/apis", accept=AGGREGATED, only=ours)
    t.get("/openapi/v3/apis/nacre.dev/v1alpha1", only=shapes)
    t.get("/openapi/v3", only=lambda b: [p for p in b["paths"] if "nacre" in p], differs="openapi-type")
    t.get("/openapi/v3/apis/nacre.dev/v9", differs="no-page")
    for path in ("/healthz", "/livez", "/readyz"):
        t.get(path)
