/* SPDX-License-Identifier: Apache-2.0 */

/* Parses a kubeconfig without opening the files that it names. */

#include "fuzz.h"

#include "kube/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct kube_config c = {0};
	struct error err = {0};
	if (kube_config_parse((const char *)data, size, "/fuzz/config", NULL, &c, &err) < 0)
		CHECK(err.msg[0] && !c.server);
	else
		CHECK(c.server && c.context);
	kube_config_clear(&c);
	return 0;
}
