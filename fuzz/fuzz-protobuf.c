/* SPDX-License-Identifier: Apache-2.0 */

/* Protobuf bodies of kubectl: the first byte picks the expected kind. */

#include "fuzz.h"

#include "apiserver/json/protobuf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct error err = {0};
	json_t *got = NULL;
	if (size < 1)
		return 0;
	const char *kind = protobuf_kind(data[0]);
	if (protobuf_decode(kind ? kind : "Instance", (const char *)data + 1, size - 1, &got, &err) < 0) {
		CHECK(err.msg[0] && !got);
		return 0;
	}
	char *text = json_dumps(got, JSON_COMPACT);
	CHECK(json_is_object(got) && text);
	free(text);
	json_decref(got);
	return 0;
}
