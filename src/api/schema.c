/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Schemas and CRDs. The rules for structural schemas and the x-kubernetes extensions are those of
 * kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions.
 *
 * jansson's json_object_set_new() and similar functions fail if the value is NULL, but the result of the last call
 * alone doesn't show an earlier failure. `failed` records any failure, and the whole is then NULL.
 */

#include "api/schema.h"

#include <string.h>

#include "api/meta.h"
#include "base/util.h"

struct builder {
	bool failed;
};

static void set(struct builder *b, json_t *obj, const char *key, json_t *value) {
	if (json_object_set_new(obj, key, value) < 0)
		b->failed = true;
}

static void append(struct builder *b, json_t *array, json_t *value) {
	if (json_array_append_new(array, value) < 0)
		b->failed = true;
}

/* Adds nothing if V is NULL. */
static void set_strings(struct builder *b, json_t *obj, const char *key, const char *const *v) {
	if (!v)
		return;
	json_t *list = json_array();
	for (; *v; v++)
		append(b, list, json_string(*v));
	set(b, obj, key, list);
}

static json_t *schema_of(struct builder *b, const struct api_desc *d);

/* Adds a validation to the schema S: RULE must be true; if it isn't, MESSAGE is shown. */
static void add_validation(struct builder *b, json_t *s, const char *rule, const char *message) {
	json_t *list = json_object_get(s, "x-kubernetes-validations");
	if (!list) {
		list = json_array();
		set(b, s, "x-kubernetes-validations", list);
	}
	append(b, list, rule && message ? json_pack("{s:s,s:s}", "rule", rule, "message", message) : NULL);
}

static void add_string_rules(struct builder *b, json_t *s, const struct api_format *f, int64_t min, int64_t max,
                             bool required) {
	set(b, s, "type", json_string("string"));
	if (f->schema_format)
		set(b, s, "format", json_string(f->schema_format));
	if (f->pattern)
		set(b, s, "pattern", json_string(f->pattern));
	if (f->rule) {
		_free_ char *message = strf("must be a valid %s in its canonical form", f->name);
		add_validation(b, s, f->rule, message);
	}
	if (f->values) {
		json_t *values = json_array();
		for (const char *const *v = f->values; *v; v++)
			append(b, values, json_string(*v));
		set(b, s, "enum", values);
		return;
	}
	set(b, s, "maxLength", json_integer(max ? max : API_STR_MAX));
	if (required && min > 0)
		set(b, s, "minLength", json_integer(min));
}

static void add_list_type(struct builder *b, json_t *s, const struct api_field *f) {
	if (f->flags & API_SET)
		set(b, s, "x-kubernetes-list-type", json_string("set"));
	else if (api_list_key(f)) {
		set(b, s, "x-kubernetes-list-type", json_string("map"));
		set(b, s, "x-kubernetes-list-map-keys", json_pack("[s]", api_list_key(f)));
	} else
		set(b, s, "x-kubernetes-list-type", json_string("atomic"));
	set(b, s, "maxItems", json_integer(f->max));
	if (f->min)
		set(b, s, "minItems", json_integer(f->min));
}

static json_t *field_schema(struct builder *b, const struct api_field *f) {
	json_t *s = f->sub && f->type != API_TYPE_list ? schema_of(b, f->sub) : json_object(), *items;
	set(b, s, "description", json_string(f->doc));
	switch (f->type) {
	case API_TYPE_str: add_string_rules(b, s, f->format, f->min, f->max, f->flags & API_REQ); break;
	case API_TYPE_i64:
		set(b, s, "type", json_string("integer"));
		set(b, s, "format", json_string("int64"));
		if (f->min || f->max) {
			set(b, s, "minimum", json_integer(f->min));
			if (f->max != INT64_MAX)
				set(b, s, "maximum", json_integer(f->max));
		}
		break;
	case API_TYPE_flag: set(b, s, "type", json_string("boolean")); break;
	case API_TYPE_obj:
	case API_TYPE_inl: break;
	case API_TYPE_list:
		set(b, s, "type", json_string("array"));
		set(b, s, "items", schema_of(b, f->sub));
		add_list_type(b, s, f);
		break;
	case API_TYPE_strs:
		set(b, s, "type", json_string("array"));
		items = json_object();
		add_string_rules(b, items, f->format, f->flags & API_MAY_BE_EMPTY ? 0 : 1, api_elem_max(f), true);
		set(b, s, "items", items);
		add_list_type(b, s, f);
		break;
	case API_TYPE_map:
		set(b, s, "type", json_string("object"));
		items = json_object();
		set(b, items, "type", json_string("string"));
		if (!(f->flags & (API_MAP_VALUES_ANY | API_MAP_DATA)))
			set(b, items, "pattern", json_string("^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"));
		set(b, items, "maxLength", json_integer(f->flags & API_MAP_VALUES_ANY ? 262144 : 63));
		set(b, s, "additionalProperties", items);
		set(b, s, "maxProperties", json_integer(f->max));
		break;
	case API_TYPE_raw: set(b, s, "x-kubernetes-preserve-unknown-fields", json_true()); break;
	}
	if (f->flags & API_ATOMIC)
		set(b, s, "x-kubernetes-map-type", json_string("atomic"));
	if (f->def)
		set(b, s, "default", json_loads(f->def, JSON_DECODE_ANY, NULL));
	if (f->flags & API_IMMUT)
		add_validation(b, s, "self == oldSelf", "field is immutable");
	return s;
}

static json_t *schema_of(struct builder *b, const struct api_desc *d) {
	json_t *s = json_object(), *props = json_object(), *required = json_array();
	set(b, s, "type", json_string("object"));
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct api_field *f = &d->fields[i];
		set(b, props, f->name, field_schema(b, f));
		if (f->flags & API_REQ)
			append(b, required, json_string(f->name));
	}
	set(b, s, "properties", props);
	if (json_array_size(required))
		set(b, s, "required", required);
	else
		json_decref(required);
	if (d->open)
		set(b, s, "x-kubernetes-preserve-unknown-fields", json_true());
	return s;
}

static json_t *api_schema_finish(const struct builder *b, json_t *s) {
	if (!b->failed)
		return s;
	json_decref(s);
	return NULL;
}

json_t *api_schema(const struct api_desc *d) {
	struct builder b = {0};
	json_t *s = schema_of(&b, d);
	return api_schema_finish(&b, s);
}

/* Finds "spec.ingress[]" in the schema of a kind. A borrowed reference; NULL: there is none. */
static json_t *schema_at(json_t *s, const char *path) {
	while (s && *path) {
		size_t n = strcspn(path, ".[");
		_free_ char *name = strndup(path, n);
		s = name ? json_object_get(json_object_get(s, "properties"), name) : NULL;
		path += n;
		for (; starts_with(path, "[]"); path += 2)
			s = json_object_get(s, "items");
		path += *path == '.';
	}
	return s;
}

static void add_rules(struct builder *b, json_t *s, const struct api_kind *k) {
	for (const struct api_rule *r = k->rules; r && r->path; r++) {
		json_t *at = schema_at(s, r->path);
		if (!at) {
			b->failed = true;
			return;
		}
		add_validation(b, at, r->cel, r->message);
	}
}

/*
 * A transition rule isn't evaluated when the field is added or removed. So an optional immutable field needs a rule on
 * its parent: a field that is present stays present, and a field that is absent stays absent.
 */
static void add_presence_rules(struct builder *b, json_t *s, const struct api_desc *d) {
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct api_field *f = &d->fields[i];
		json_t *sub = json_object_get(json_object_get(s, "properties"), f->name);
		if (f->type == API_TYPE_obj)
			add_presence_rules(b, sub, f->sub);
		if (!(f->flags & API_IMMUT) || (f->flags & API_REQ))
			continue;
		_free_ char *rule = strf("has(self.%s) == has(oldSelf.%s)", f->name, f->name);
		_free_ char *message = strf("%s is immutable", f->name);
		add_validation(b, s, rule, message);
	}
}

json_t *api_kind_schema(const struct api_kind *k) {
	struct builder b = {0};
	json_t *s = schema_of(&b, k->desc), *props = json_object_get(s, "properties");
	set(&b, s, "description", json_string(k->doc));
	set(&b, props, "apiVersion",
	    json_pack("{s:s,s:s}", "type", "string", "description", "Version of the schema of this object."));
	set(&b, props, "kind", json_pack("{s:s,s:s}", "type", "string", "description", "Kind of this object."));
	set(&b, props, "metadata", json_pack("{s:s}", "type", "object"));
	add_presence_rules(&b, s, k->desc);
	add_rules(&b, s, k);
	return api_schema_finish(&b, s);
}

static json_t *crd_scale(const struct api_scale *s) {
	if (!s)
		return NULL;
	_free_ char *spec = strf(".%s", s->spec_replicas), *status = strf(".%s", s->status_replicas);
	_free_ char *selector = strf(".%s", s->selector);
	return json_pack("{s:s, s:s, s:s}", "specReplicasPath", spec, "statusReplicasPath", status, "labelSelectorPath",
	                 selector);
}

static json_t *crd_version(struct builder *b, const struct api_kind *k) {
	json_t *v = json_object(), *columns = json_array();
	set(b, v, "name", json_string(k->version));
	set(b, v, "served", json_true());
	set(b, v, "storage", json_true());
	set(b, v, "schema", json_pack("{s:o}", "openAPIV3Schema", api_kind_schema(k)));
	if (k->has_status)
		set(b, v, "subresources", json_pack("{s:{}, s:o*}", "status", "scale", crd_scale(k->scale)));
	for (const struct api_column *c = k->columns; c && c->name; c++) {
		json_t *column = json_pack("{s:s,s:s,s:s,s:s}", "name", c->name, "type", c->type, "jsonPath", c->path,
		                           "description", c->doc);
		if (c->priority)
			set(b, column, "priority", json_integer(c->priority));
		append(b, columns, column);
	}
	append(b, columns,
	       json_pack("{s:s,s:s,s:s}", "name", "Age", "type", "date", "jsonPath", ".metadata.creationTimestamp"));
	set(b, v, "additionalPrinterColumns", columns);
	if (k->selectable_fields) {
		json_t *fields = json_array();
		for (const char *const *f = k->selectable_fields; *f; f++) {
			_free_ char *path = strf(".%s", *f);
			append(b, fields, path ? json_pack("{s:s}", "jsonPath", path) : NULL);
		}
		set(b, v, "selectableFields", fields);
	}
	return v;
}

json_t *api_crd(const struct api_kind *k) {
	struct builder b = {0};
	_free_ char *name = strf("%s.%s", k->plural, k->group);
	_free_ char *list_kind = strf("%sList", k->kind);
	if (!name || !list_kind)
		return NULL;
	json_t *names = json_pack("{s:s,s:s,s:s,s:s}", "kind", k->kind, "listKind", list_kind, "plural", k->plural,
	                          "singular", k->singular);
	set_strings(&b, names, "categories", api_kind_categories(k));
	set_strings(&b, names, "shortNames", k->short_names);
	json_t *versions = json_array();
	append(&b, versions, crd_version(&b, k));
	json_t *crd =
		json_pack("{s:s,s:s,s:{s:s},s:{s:s,s:o,s:s,s:o}}", "apiVersion", "apiextensions.k8s.io/v1", "kind",
	                  "CustomResourceDefinition", "metadata", "name", name, "spec", "group", k->group, "names",
	                  names, "scope", k->namespaced ? "Namespaced" : "Cluster", "versions", versions);
	return crd ? api_schema_finish(&b, crd) : NULL;
}

/* Prints a JSON tree as block-style YAML. Strings are in JSON's double quotes, which YAML reads in the same way. */
static void yaml(struct buf *out, const json_t *v, unsigned indent, bool in_list) {
	const char *key;
	json_t *child;
	size_t i;
	if (json_is_object(v) && json_object_size(v)) {
		bool first = true;
		json_object_foreach((json_t *)v, key, child) {
			buf_printf(out, "%*s%s:", first && in_list ? 0 : (int)indent, "", key);
			first = false;
			bool nested = (json_is_object(child) && json_object_size(child)) ||
			              (json_is_array(child) && json_array_size(child));
			buf_putc(out, nested ? '\n' : ' ');
			yaml(out, child, json_is_array(child) ? indent : indent + 2, false);
		}
	} else if (json_is_array(v) && json_array_size(v)) {
		json_array_foreach(v, i, child) {
			buf_printf(out, "%*s- ", (int)indent, "");
			yaml(out, child, indent + 2, true);
		}
	} else {
		_free_ char *text = json_dumps(v, JSON_ENCODE_ANY);
		if (text)
			buf_puts(out, text);
		else
			out->failed = true;
		buf_putc(out, '\n');
	}
}

void api_yaml(struct buf *out, const json_t *v) {
	yaml(out, v, 0, false);
}

int api_crds_yaml(struct buf *out, struct error *err) {
	bool first = true;
	for (const struct api_kind *const *k = api_kinds; *k; k++) {
		if (strcmp((*k)->group, "nacre.dev") != 0)
			continue;
		json_t *crd = api_crd(*k);
		if (!crd)
			return error_set(err, ENOMEM,
			                 "CRD of %s: out of memory, or a rule whose path is not in the schema",
			                 (*k)->kind);
		if (!first)
			buf_puts(out, "---\n");
		first = false;
		api_yaml(out, crd);
		json_decref(crd);
	}
	return buf_error(out, "CRDs", err);
}
