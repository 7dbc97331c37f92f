// SPDX-License-Identifier: Apache-2.0
// fabric8: creates, lists, watches, patches, waits for and deletes an Instance. Arguments: KUBECONFIG NAMESPACE NAME.

import io.fabric8.kubernetes.api.model.GenericKubernetesResource;
import io.fabric8.kubernetes.api.model.GenericKubernetesResourceBuilder;
import io.fabric8.kubernetes.client.Config;
import io.fabric8.kubernetes.client.KubernetesClient;
import io.fabric8.kubernetes.client.KubernetesClientBuilder;
import io.fabric8.kubernetes.client.Watch;
import io.fabric8.kubernetes.client.Watcher;
import io.fabric8.kubernetes.client.WatcherException;
import io.fabric8.kubernetes.client.dsl.base.PatchContext;
import io.fabric8.kubernetes.client.dsl.base.PatchType;
import io.fabric8.kubernetes.client.dsl.base.ResourceDefinitionContext;
import java.io.File;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

public class Life {
	static final ResourceDefinitionContext INSTANCES = new ResourceDefinitionContext.Builder().withGroup("nacre.dev")
			.withVersion("v1alpha1").withKind("Instance").withPlural("instances").withNamespaced(true).build();

	static boolean ready(GenericKubernetesResource o) {
		List<Map<String, Object>> conditions = o == null ? null : o.get("status", "conditions");
		return conditions != null
				&& conditions.stream().anyMatch(c -> "Ready".equals(c.get("type")) && "True".equals(c.get("status")));
	}

	public static void main(String[] args) throws Exception {
		String ns = args[1], name = args[2];
		try (KubernetesClient client =
				new KubernetesClientBuilder().withConfig(Config.fromKubeconfig(new File(args[0]))).build()) {
			var instances = client.genericKubernetesResources(INSTANCES).inNamespace(ns);
			var deleted = new CountDownLatch(1);
			Watch watch = instances.withName(name).watch(new Watcher<GenericKubernetesResource>() {
				@Override
				public void eventReceived(Action action, GenericKubernetesResource o) {
					System.out.println("event " + action);
					if (action == Action.DELETED)
						deleted.countDown();
				}

				@Override
				public void onClose(WatcherException e) {
					if (e != null)
						System.out.println("watch " + e);
				}
			});
			var wanted = new GenericKubernetesResourceBuilder().withApiVersion("nacre.dev/v1alpha1").withKind("Instance")
					.withNewMetadata().withName(name).addToLabels("client", name).endMetadata()
					.addToAdditionalProperties("spec", Map.of("type", "small", "image", "debian")).build();
			instances.resource(wanted).create();
			if (instances.withLabel("client", name).list().getItems().size() != 1)
				throw new IllegalStateException("the list has not one Instance");
			instances.withName(name).patch(PatchContext.of(PatchType.JSON_MERGE), "{\"spec\":{\"running\":false}}");
			instances.withName(name).waitUntilCondition(Life::ready, 5, TimeUnit.MINUTES);
			instances.withName(name).delete();
			if (!deleted.await(5, TimeUnit.MINUTES))
				throw new IllegalStateException("no DELETED was seen");
			watch.close();
		}
		System.out.println("done");
	}
}
