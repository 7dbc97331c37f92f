// SPDX-License-Identifier: Apache-2.0
// kube-rs: creates, lists, watches, patches, waits for and deletes an Instance. Arguments: KUBECONFIG NAMESPACE NAME.

use std::time::Duration;

use anyhow::{ensure, Context};
use futures::TryStreamExt;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::api::{WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::runtime::wait::await_condition;
use kube::{Client, Config};
use serde_json::json;

fn is_ready(o: Option<&DynamicObject>) -> bool {
    o.and_then(|o| o.data["status"]["conditions"].as_array())
        .is_some_and(|v| v.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let (ns, name) = (&args[2], &args[3]);
    let config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(&args[1])?, &KubeConfigOptions::default()).await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("nacre.dev", "v1alpha1", "Instance"));
    let instances: Api<DynamicObject> = Api::namespaced_with(Client::try_from(config)?, ns, &kind);

    let version = instances.list(&ListParams::default()).await?.metadata.resource_version;
    let selector = format!("client={name}");
    let events = instances
        .watch(&WatchParams::default().labels(&selector), &version.context("a list without a version")?)
        .await?;
    let mut events = Box::pin(events);

    let wanted: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "nacre.dev/v1alpha1", "kind": "Instance",
        "metadata": {"name": name, "labels": {"client": name}},
        "spec": {"type": "small", "image": "debian"}}))?;
    instances.create(&PostParams::default(), &wanted).await?;
    ensure!(instances.list(&ListParams::default().labels(&selector)).await?.items.len() == 1);
    instances.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": {"running": false}}))).await?;
    let ready = await_condition(instances.clone(), name, is_ready);
    tokio::time::timeout(Duration::from_secs(300), ready).await??;
    instances.delete(name, &DeleteParams::default()).await?;
    while let Some(event) = events.try_next().await? {
        let what = match event {
            WatchEvent::Added(_) => "ADDED",
            WatchEvent::Modified(_) => "MODIFIED",
            WatchEvent::Deleted(_) => "DELETED",
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(e) => anyhow::bail!("watch: {e:?}"),
        };
        println!("event {what}");
        if what == "DELETED" {
            println!("done");
            return Ok(());
        }
    }
    anyhow::bail!("no DELETED was seen")
}
