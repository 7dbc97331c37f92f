/* SPDX-License-Identifier: Apache-2.0 */
#include "node/desired.h"

#include <string.h>

#include "base/util.h"

/* A path below the image directory; the API has checked that it doesn't lead out of it. */
static int image_path(const char *dir, const char *file, char out[static VM_PATH_MAX + 1], struct error *err) {
	if ((size_t)snprintf(out, VM_PATH_MAX + 1, "%s/%s", dir, file) > VM_PATH_MAX)
		return error_set(err, ENAMETOOLONG, "`%s/%s` is longer than %d bytes", dir, file, VM_PATH_MAX);
	return 0;
}

static int put_image(const struct image *img, const char *dir, struct guest_spec *g, struct error *err) {
	const struct image_kernel *k = img->spec->kernel;
	const struct image_disk *d = img->spec->disk;
	int r;

	snprintf(g->image, sizeof(g->image), "%s", img->meta.name);
	if (k) {
		g->vm.boot = VM_BOOT_KERNEL;
		r = image_path(dir, k->kernel, g->kernel, err);
		if (r >= 0 && k->initrd && *k->initrd)
			r = image_path(dir, k->initrd, g->initrd, err);
		if (k->cmdline)
			snprintf(g->vm.cmdline, sizeof(g->vm.cmdline), "%s", k->cmdline);
		return r;
	}
	g->vm.boot = d->firmware && streq(d->firmware, "bios") ? VM_BOOT_BIOS : VM_BOOT_UEFI;
	g->vm.image_format = streq(d->format, "raw") ? VM_FORMAT_RAW : VM_FORMAT_QCOW2;
	return image_path(dir, d->file, g->disk, err);
}

static int put_ingress(const struct instance_ingress *in, struct instnet_ingress *out, struct error *err) {
	out->proto = streq(in->protocol, "tcp") ? INSTNET_TCP : streq(in->protocol, "udp") ? INSTNET_UDP : INSTNET_ICMP;
	out->port = in->port.set ? in->port.v : 0;
	return in->from ? prefix_parse(in->from, &out->from, err) : 0;
}

static int put_addresses(const struct instance_status *st, struct instnet_spec *net, struct error *err) {
	int r = mac_parse(st->mac, &net->mac, err);

	if (r >= 0)
		r = addr_parse(st->overlay_address, &net->ip, err);
	if (r >= 0)
		r = prefix_parse(st->prefix, &net->net, err);
	if (r >= 0 && st->delegated_prefix && *st->delegated_prefix)
		r = prefix_parse(st->delegated_prefix, &net->delegated, err);
	return r;
}

int desired_guest(const struct instance *inst, const struct image *img, const char *image_dir, struct guest_spec *ret,
                  struct error *err) {
	const struct instance_status *st = inst->status;
	int r;

	if (!st || !st->mac || !st->overlay_address || !st->prefix || !st->vcpus.set || !st->memory_mib.set)
		return 1;
	jt_init(&jt_guest_spec, ret);
	snprintf(ret->vm.uuid, sizeof(ret->vm.uuid), "%s", instance_id(inst));
	if ((size_t)snprintf(ret->vm.name, sizeof(ret->vm.name), "%s/%s", inst->meta.ns, inst->meta.name) >=
	    sizeof(ret->vm.name))
		return error_set(err, ENAMETOOLONG, "namespace and name together have more than %d characters",
		                 VM_NAME_MAX - 1);
	ret->running = !inst->spec->running.set || inst->spec->running.v;
	ret->vm.vcpus = st->vcpus.v;
	ret->vm.memory_mib = st->memory_mib.v;
	r = put_addresses(st, &ret->net, err);
	for (size_t i = 0; i < inst->spec->ingress.n && i < INSTNET_INGRESS_MAX && r >= 0; i++)
		r = put_ingress(&inst->spec->ingress.v[i], &ret->net.ingress[ret->net.n_ingress++], err);
	if (r < 0)
		return r;
	if (!img)
		return error_set(err, ENOENT, "Image `%s` does not exist", inst->spec->image);
	r = put_image(img, image_dir, ret, err);
	return r < 0 ? error_prefix(err, "Image `%s`", img->meta.name) : 0;
}

const char *desired_endpoint_name(const char *id, char out[static DESIRED_NAME_MAX]) {
	snprintf(out, DESIRED_NAME_MAX, ENDPOINT_OF_INSTANCE "%s", id);
	return out;
}

const char *desired_endpoint_id(const char *name) {
	const char *id = starts_with(name, ENDPOINT_OF_INSTANCE) ? name + strlen(ENDPOINT_OF_INSTANCE) : "";

	return strlen(id) == 36 ? id : NULL;
}

static bool put_route(struct endpoint_spec *s, const char *prefix) {
	if (!prefix || !*prefix)
		return true;
	s->routes.v[s->routes.n].prefix = strdup(prefix);
	return s->routes.v[s->routes.n++].prefix != NULL;
}

struct endpoint *desired_endpoint(const struct instance *inst, const char *host, const char *vtep) {
	char name[DESIRED_NAME_MAX];
	struct endpoint *ep = api_new(&api_kind_endpoint);
	struct endpoint_spec *s = calloc(1, sizeof(*s));

	if (!ep || !s) {
		free(s);
		api_free(&api_kind_endpoint, ep);
		return NULL;
	}
	ep->spec = s;
	ep->meta.name = strdup(desired_endpoint_name(instance_id(inst), name));
	s->host = strdup(host);
	s->vtep = strdup(vtep);
	s->ip = strdup(inst->status->overlay_address);
	s->mac = strdup(inst->status->mac);
	s->routes.v = calloc(2, sizeof(*s->routes.v));
	s->owner = calloc(1, sizeof(*s->owner));
	bool ok = ep->meta.name && s->host && s->vtep && s->ip && s->mac && s->routes.v && s->owner;
	if (ok) {
		s->owner->kind = strdup("Instance");
		s->owner->ns = strdup(inst->meta.ns);
		s->owner->name = strdup(inst->meta.name);
		s->owner->uid = strdup(instance_id(inst));
		ok = s->owner->kind && s->owner->ns && s->owner->name && s->owner->uid &&
		     put_route(s, inst->status->prefix) && put_route(s, inst->status->delegated_prefix);
	}
	if (!ok) {
		api_free(&api_kind_endpoint, ep);
		return NULL;
	}
	return ep;
}

struct instance *desired_status(const struct instance *inst, const char *phase, int64_t restarts, bool ready,
                                const char *reason, const char *message) {
	struct instance *n = api_copy(&api_kind_instance, inst);
	struct instance_status *st = n ? n->status : NULL;

	if (!n)
		return NULL;
	if (!st && !(st = n->status = calloc(1, sizeof(*st))))
		goto failed;
	if (string_set(&st->phase, phase) < 0)
		goto failed;
	if (restarts)
		st->restarts = API_I64((st->restarts.set ? st->restarts.v : 0) + restarts);
	if (api_condition_set(&st->conditions.v, &st->conditions.n, "Ready", ready ? "True" : "False", reason, message,
	                      n->meta.generation.v, now_realtime_us()) < 0)
		goto failed;
	return n;
failed:
	api_free(&api_kind_instance, n);
	return NULL;
}
