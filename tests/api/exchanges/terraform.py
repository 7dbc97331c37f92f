# SPDX-License-Identifier: Apache-2.0
"""The requests of Terraform's provider in the life of a kubernetes_manifest: plan, apply, wait, a plan without a
difference, an update, destroy. Taken from hashicorp/terraform-provider-kubernetes (manifest/provider: plan.go,
apply.go, waiter.go, read.go) and client-go's dynamic client."""

from apilib import V

APPLY = "fieldManager=Terraform&force=false"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUPS = ("nacre.dev", "apiextensions.k8s.io")
OPTIONS = {"kind": "DeleteOptions", "apiVersion": "v1"}


def manifest(t, **spec):
    return {"apiVersion": V, "kind": "Instance", "metadata": {"name": "a", "namespace": t.ns},
            "spec": {"type": "small", "image": "debian", **spec}}


def foundry(body):
    """The types: of the kind by its group, version and kind; of the metadata by its name."""
    found = {n: d for n, d in body["definitions"].items() if n == "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" or
             any(k["kind"] == "Instance" for k in d.get("x-kubernetes-group-version-kind", []))}
    return {n: {p: [v.get("type"), v.get("$ref")] for p, v in sorted(d["properties"].items())
                if p not in ("selfLink", "creationTimestamp", "deletionTimestamp", "managedFields")} for n, d in found.items()}


def schema(body):
    """What the provider looks up in the CustomResourceDefinitions, if the kind has one."""
    return [{"name": v["name"], "schema": v["schema"]} for c in body["items"] if c["spec"]["names"]["kind"] == "Instance"
            for v in c["spec"]["versions"]]


def types(t):
    """Requests before each plan, read or apply."""
    t.get("/apis", only=lambda b: sorted(([g["name"], g["versions"]] for g in b["groups"] if g["name"] in GROUPS)))
    t.get("/openapi/v2", only=foundry)
    t.get("/apis/apiextensions.k8s.io/v1",
          only=lambda b: [[r["name"], r["kind"], r["namespaced"]] for r in b["resources"] if "/" not in r["name"]])
    t.get(CRDS, only=schema)


def topic(t):
    # The first plan: the types, and whether the object exists.
    types(t)
    t.get("$I/a")
    # Apply, then wait for fields of the status, which others write.
    t.apply(f"$I/a?{APPLY}", manifest(t, ingress=[{"protocol": "tcp", "port": 22}]))
    t.get("$I/a")
    t.merge("$I/a?fieldManager=controller", {"metadata": {"finalizers": ["example.org/terraform"]}})
    t.merge("$I/a/status?fieldManager=agent", {"status": {"phase": "Running", "host": "h1", "conditions": [
        {"type": "Ready", "status": "True", "reason": "Running", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
    t.get("$I/a")
    # The second plan finds what was applied, so nothing is to be done; applying it again makes no new version.
    t.get("$I/a", only=lambda o: o["spec"])
    t.apply(f"$I/a?{APPLY}", manifest(t, ingress=[{"protocol": "tcp", "port": 22}]))
    # An update: one field changes, one is removed.
    t.apply(f"$I/a?{APPLY}", manifest(t, running=False))
    t.get("$I/a", only=lambda o: o["spec"])
    # Another manager changes the field meanwhile: a conflict, until the provider forces it.
    t.merge("$I/a?fieldManager=kubectl-edit", {"spec": {"running": True}})
    t.apply(f"$I/a?{APPLY}", manifest(t, running=False))
    t.apply("$I/a?fieldManager=Terraform&force=true", manifest(t, running=False))
    # An immutable field: the object is replaced.
    t.apply(f"$I/a?{APPLY}", {**manifest(t), "spec": {"type": "large", "image": "debian"}})
    # Destroy, then wait until the object is gone.
    t.delete("$I/a", OPTIONS)
    t.get("$I/a", only=lambda o: sorted(o["metadata"]))
    t.merge("$I/a?fieldManager=controller", {"metadata": {"finalizers": None}})
    t.get("$I/a")
    # One definition by its name.
    t.get(f"{CRDS}/instances.nacre.dev", only=lambda c: [c["spec"]["group"], c["spec"]["scope"], c["spec"]["names"],
                                                         c["status"]["storedVersions"], c["status"]["acceptedNames"]])
    t.get(f"{CRDS}/none.nacre.dev")
