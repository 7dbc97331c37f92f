/* SPDX-License-Identifier: Apache-2.0 */

/* "LABELS\nFIELDS\nJSON": parses the selectors and matches them against the object, if it could be stored. */

#include "fuzz.h"

#include <string.h>

#include "api/core.h"
#include "apiserver/json/selector.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	char *text = malloc(size + 1), *fields, *object;
	struct selector *sel = NULL;
	struct error err = {0};
	CHECK(text);
	memcpy(text, data, size);
	text[size] = '\0';
	fields = strchr(text, '\n');
	object = fields ? strchr(fields + 1, '\n') : NULL;
	if (object) {
		*fields++ = *object++ = '\0';
		if (selector_parse(&api_kind_event, text, fields, &sel, &err) < 0)
			CHECK(err.msg[0]);
		else
			selector_matches(sel, "ns", "name", object, strlen(object), &(size_t){0});
		selector_free(sel);
	}
	free(text);
	return 0;
}
