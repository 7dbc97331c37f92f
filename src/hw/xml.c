/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/xml.h"

#include <expat.h>
#include <stdarg.h>
#include <string.h>

#include "base/buf.h"
#include "base/util.h"

struct xml_reader {
	XML_Parser parser;
	struct xml_doc doc;
	size_t els_cap, attrs_cap;
	int open; /* index of the element that we are in, -1 outside */
	unsigned depth;
	struct buf text;
	int failed; /* negative errno of a failure in a handler, which ERR describes */
	struct error *err;
};

/* The first failure is the one that is told. */
static void xml_stop(struct xml_reader *r, int code, const char *fmt, ...) _printf_(3, 4);
static void xml_stop(struct xml_reader *r, int code, const char *fmt, ...) {
	char msg[300];
	va_list ap;
	if (r->failed)
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	r->failed = error_set(r->err, code, "line %lu: %s", (unsigned long)XML_GetCurrentLineNumber(r->parser), msg);
	XML_StopParser(r->parser, XML_FALSE);
}

/* A copy in the strings of the document, whose size is known beforehand: see xml_parse(). */
static const char *xml_keep(struct xml_reader *r, const char *s, size_t len) {
	struct xml_doc *d = &r->doc;
	if (len + 1 > d->size - d->used) {
		xml_stop(r, EFBIG, "the names and values of the document are too large");
		return "";
	}
	char *to = d->strings + d->used;
	memcpy(to, s, len);
	to[len] = 0;
	d->used += len + 1;
	return to;
}

/* Makes room for one more element of SIZE bytes. */
static bool xml_grow(struct xml_reader *r, void **v, unsigned n, size_t *cap, size_t size) {
	if (n < *cap)
		return true;
	size_t more = *cap ? *cap * 2 : 256;
	void *p = reallocarray(*v, more, size);
	if (!p) {
		xml_stop(r, ENOMEM, "out of memory");
		return false;
	}
	*v = p;
	*cap = more;
	return true;
}

static void XMLCALL xml_start(void *data, const XML_Char *name, const XML_Char **attrs) {
	struct xml_reader *r = data;
	struct xml_doc *d = &r->doc;
	if (r->failed)
		return;
	buf_reset(&r->text);
	if (strlen(name) > 64)
		return xml_stop(r, EINVAL, "the name of an element has more than 64 bytes");
	if (d->n_els == XML_ELEMENTS_MAX)
		return xml_stop(r, EFBIG, "<%s>: the document has more than %d elements", name, XML_ELEMENTS_MAX);
	if (++r->depth > XML_DEPTH_MAX)
		return xml_stop(r, EFBIG, "<%s>: elements are nested more than %d levels deep", name, XML_DEPTH_MAX);
	if (!xml_grow(r, (void **)&d->els, d->n_els, &r->els_cap, sizeof(*d->els)))
		return;
	struct xml_el el = {xml_keep(r, name, strlen(name)), "", 0, r->open, 0, d->n_attrs, 0};
	el.line = (unsigned)XML_GetCurrentLineNumber(r->parser);
	for (; *attrs && !r->failed; attrs += 2) {
		if (el.n_attrs == XML_ATTRS_MAX)
			return xml_stop(r, EFBIG, "<%s>: the element has more than %d attributes", name, XML_ATTRS_MAX);
		if (strlen(attrs[0]) > 64 || strlen(attrs[1]) > XML_VALUE_MAX)
			return xml_stop(r, EFBIG, "<%s>: attribute %.64s has more than %d bytes", name, attrs[0],
			                XML_VALUE_MAX);
		if (!xml_grow(r, (void **)&d->attrs, d->n_attrs, &r->attrs_cap, sizeof(*d->attrs)))
			return;
		d->attrs[d->n_attrs++] = (struct xml_attr){xml_keep(r, attrs[0], strlen(attrs[0])),
		                                           xml_keep(r, attrs[1], strlen(attrs[1]))};
		el.n_attrs++;
	}
	r->open = (int)d->n_els;
	d->els[d->n_els++] = el;
}

static void XMLCALL xml_end(void *data, const XML_Char *name) {
	struct xml_reader *r = data;
	(void)name;
	if (r->failed)
		return;
	struct xml_el *el = &r->doc.els[r->open];
	el->end = r->doc.n_els;
	if (el->end == (unsigned)r->open + 1 && r->text.len)
		el->text = xml_keep(r, r->text.data, r->text.len);
	buf_reset(&r->text);
	r->open = el->parent;
	r->depth--;
}

static void XMLCALL xml_text(void *data, const XML_Char *s, int len) {
	struct xml_reader *r = data;
	if (r->failed || r->open < 0)
		return;
	buf_add(&r->text, s, (size_t)len);
	if (r->text.failed)
		xml_stop(r, EFBIG, "<%s>: the text has more than %d bytes", r->doc.els[r->open].name, XML_VALUE_MAX);
}

static void XMLCALL xml_doctype(void *data, const XML_Char *name, const XML_Char *system, const XML_Char *public,
                                int has_internal_subset) {
	(void)name, (void)system, (void)public;
	if (has_internal_subset)
		xml_stop(data, EINVAL, "declarations of entities and the like inside the document are not allowed");
}

void xml_clear(struct xml_doc *d) {
	free(d->els);
	free(d->attrs);
	free(d->strings);
	*d = (struct xml_doc){0};
}

static int xml_run(struct xml_reader *r, const char *text, size_t len) {
	XML_SetUserData(r->parser, r);
	XML_SetElementHandler(r->parser, xml_start, xml_end);
	XML_SetCharacterDataHandler(r->parser, xml_text);
	XML_SetStartDoctypeDeclHandler(r->parser, xml_doctype);
	enum XML_Status status = XML_Parse(r->parser, text, (int)len, XML_TRUE);
	if (r->failed)
		return r->failed;
	if (status != XML_STATUS_OK)
		return error_set(r->err, EINVAL, "line %lu: invalid XML: %s",
		                 (unsigned long)XML_GetCurrentLineNumber(r->parser),
		                 XML_ErrorString(XML_GetErrorCode(r->parser)));
	return 0;
}

int xml_parse(const char *text, size_t len, struct xml_doc *ret, struct error *err) {
	struct xml_reader r = {.open = -1, .err = err, .text.max = XML_VALUE_MAX};
	if (len > XML_BYTES_MAX)
		return error_set(err, EFBIG, "the document has more than %zu bytes", XML_BYTES_MAX);
	/* Each string has a delimiter in the text, where a NUL goes here. UTF-16 may grow by half when it becomes
	 * UTF-8. */
	r.doc.size = 2 * len + 64;
	r.doc.strings = malloc(r.doc.size);
	r.parser = XML_ParserCreate(NULL);
	int e = r.doc.strings && r.parser ? xml_run(&r, text, len) : error_oom(err);
	if (r.parser)
		XML_ParserFree(r.parser);
	buf_free(&r.text);
	if (e < 0) {
		xml_clear(&r.doc);
		return e;
	}
	*ret = r.doc;
	return 0;
}

const char *xml_get(const struct xml_doc *d, unsigned el, const char *name) {
	const struct xml_el *e = &d->els[el];
	for (unsigned i = e->attr; i < e->attr + e->n_attrs; i++)
		if (streq(d->attrs[i].name, name))
			return d->attrs[i].value;
	return NULL;
}

int(xml_fail)(const struct xml_doc *d, unsigned el, struct error *err, const char *fmt, ...) {
	char msg[400];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	return error_set(err, EINVAL, "line %u: <%s>: %s", d->els[el].line, d->els[el].name, msg);
}
