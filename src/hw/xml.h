/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * XML from strangers as a bounded list of elements. Each element knows its line, so that readers can say where
 * something is wrong. Entities, attribute defaults and everything else that a document could declare for itself are
 * refused, so the result is never larger than the text; nothing outside the text is read.
 *
 * Ownership: xml_parse() fills a document that xml_clear() releases. Names, values and texts are UTF-8, end in NUL and
 * live as long as the document.
 */

#include "base/error.h"

#define XML_BYTES_MAX    ((size_t)8 << 20)
#define XML_ELEMENTS_MAX 65536
#define XML_DEPTH_MAX    64
#define XML_ATTRS_MAX    40   /* of one element */
#define XML_VALUE_MAX    8192 /* bytes of an attribute, or of the text of an element */

struct xml_attr {
	const char *name, *value;
};

struct xml_el {
	const char *name, *text; /* text: of an element without children, "" if there is none */
	unsigned line;
	int parent;    /* index, -1 for the outermost element */
	unsigned end;  /* index behind the last element inside this one */
	unsigned attr; /* index of the first attribute */
	unsigned n_attrs;
};

struct xml_doc {
	struct xml_el *els; /* in the order of their start tags: a parent comes before its children */
	struct xml_attr *attrs;
	unsigned n_els, n_attrs;
	char *strings;
	size_t used, size;
};

/* -EINVAL, -EFBIG or -ENOMEM with a message that names the line and the element. *RET is written only on success. */
int xml_parse(const char *text, size_t len, struct xml_doc *ret, struct error *err) _must_use_;
void xml_clear(struct xml_doc *d);
#define _xml_clear_ _cleanup_(xml_clear)

/* The value of an attribute; NULL if the element doesn't have it. */
const char *xml_get(const struct xml_doc *d, unsigned el, const char *name);
/* Fills ERR with "line N: <name>: MESSAGE" and returns -EINVAL. */
int xml_fail(const struct xml_doc *d, unsigned el, struct error *err, const char *fmt, ...) _printf_(4, 5);
#define xml_fail(...) ERROR_NEGATIVE((xml_fail)(__VA_ARGS__))
