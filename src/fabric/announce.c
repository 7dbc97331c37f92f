/* SPDX-License-Identifier: Apache-2.0 */
#include "fabric/announce.h"

#include <string.h>

#include "api/addresspool.h"
#include "base/loop.h"
#include "base/util.h"

#define RETRY_MIN_US (200 * USEC_PER_MSEC)
#define RETRY_MAX_US (5 * USEC_PER_SEC)

struct announcer {
	struct kube_client *client;
	struct kube_cache *cache;
	struct kube_request *request;
	sd_event_source *retry;
	uint64_t delay_us;
	char *name;
	bool decided; /* announcer_want() was called */
	bool again;   /* something changed while a request was under way */
	struct endpoint *wanted;
	void (*failed)(const struct error *err, void *userdata);
	void *userdata;
};

static void announcer_reconcile(struct announcer *a);

static int announcer_on_retry(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
	announcer_reconcile(userdata);
	return 0;
}

static void retry_later(struct announcer *a, const struct error *err) {
	if (a->failed)
		a->failed(err, a->userdata);
	a->delay_us = a->delay_us ? MIN(2 * a->delay_us, RETRY_MAX_US) : RETRY_MIN_US;
	/* Without memory for the timer the next event of the cache starts the retry. */
	(void)!loop_timer(kube_client_loop(a->client), &a->retry, a->delay_us, announcer_on_retry, a);
}

static void announcer_on_done(const struct kube_response *resp, void *userdata) {
	struct announcer *a = userdata;
	bool again = a->again;
	void *obj;
	a->again = false;
	/* The object vanished or changed meanwhile. The watch reports that, now or later, and then it is compared
	 * again. */
	if (resp->error < 0 && resp->error != -ENOENT && resp->error != -EEXIST && resp->error != -ESTALE) {
		retry_later(a, &resp->err);
		return;
	}
	a->delay_us = 0;
	if (resp->error == 0 && kube_response_parse(resp, &api_kind_endpoint, &obj, NULL) == 0) {
		const struct api_meta *meta = api_meta(obj);
		/* The answer to a deletion is the object before the deletion. */
		if (a->wanted && !meta->deletion_timestamp)
			kube_cache_feed(a->cache, obj);
		else
			api_free(&api_kind_endpoint, obj);
	}
	/* Only if something changed: with a server that stores another spec than it is sent, this would repeat for
	 * ever. */
	if (again)
		announcer_reconcile(a);
}

static int replace_spec(struct announcer *a, struct error *err) {
	_buf_free_ struct buf b = {0};
	buf_puts(&b, "{\"spec\":");
	api_print_value(&api_desc_endpoint_spec, a->wanted->spec, &b);
	buf_puts(&b, "}");
	int r = buf_error(&b, "endpoint", err);
	if (r < 0)
		return r;
	return kube_patch(a->client, &api_kind_endpoint, NULL, a->name, NULL, KUBE_PATCH_MERGE, b.data, b.len,
	                  KUBE_CALL(announcer_on_done, a, &a->request), err);
}

static void announcer_reconcile(struct announcer *a) {
	struct error err = {0};
	int r = 0;
	if (!a->decided || !kube_cache_synced(a->cache))
		return;
	if (a->request) {
		a->again = true; /* compare again when the answer has come; the watch may report the change before the
		                    answer */
		return;
	}
	const struct endpoint *have = kube_cache_get(a->cache, NULL, a->name);
	const struct endpoint *bad = kube_cache_get_bad(a->cache, NULL, a->name);
	if (bad && a->wanted)
		return; /* nothing is known of the content */
	if (bad)
		have = bad;
	if (!have && a->wanted)
		r = kube_create(a->client, &api_kind_endpoint, a->wanted, KUBE_CALL(announcer_on_done, a, &a->request),
		                &err);
	else if (have && have->meta.deletion_timestamp)
		return; /* created again when it is gone */
	else if (have && !a->wanted)
		r = kube_delete(a->client, &api_kind_endpoint, NULL, a->name, have->meta.uid,
		                KUBE_CALL(announcer_on_done, a, &a->request), &err);
	else if (have && !api_equal(&api_desc_endpoint_spec, have->spec, a->wanted->spec))
		r = replace_spec(a, &err);
	if (r < 0)
		retry_later(a, &err);
}

static void announcer_on_change(_unused_ const struct kube_change *ch, void *userdata) {
	announcer_reconcile(userdata);
}

/* The fabric, which follows all Endpoints, reports it. */
static void announcer_on_bad(_unused_ const struct kube_cache *c, _unused_ const char *ns, _unused_ const char *name,
                             _unused_ const struct error *err, void *userdata) {
	announcer_reconcile(userdata);
}

static void announcer_on_good(_unused_ const struct kube_cache *c, _unused_ const char *ns, _unused_ const char *name,
                              void *userdata) {
	announcer_reconcile(userdata);
}

int announcer_new(struct announcer **ret, struct kube_client *client, const char *name,
                  void (*failed)(const struct error *err, void *userdata), void *userdata, struct error *err) {
	_free_ char *selector = strf("metadata.name=%s", name);
	struct announcer *a = calloc(1, sizeof(*a));
	struct kube_cache_options o = {
		.select = {.field_selector = selector},
		.bad = announcer_on_bad,
		.good = announcer_on_good,
		.userdata = a,
	};
	if (!a || !selector) {
		free(a);
		return error_oom(err);
	}
	a->client = client;
	a->failed = failed;
	a->userdata = userdata;
	a->name = strdup(name);
	int r = a->name ? kube_cache_new(&a->cache, client, &api_kind_endpoint, &o, err) : error_oom(err);
	if (r >= 0 && kube_cache_on_change(a->cache, announcer_on_change, a) < 0)
		r = error_oom(err);
	if (r < 0) {
		announcer_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

struct announcer *announcer_free(struct announcer *a) {
	if (!a)
		return NULL;
	kube_request_cancel(&a->request);
	sd_event_source_disable_unref(a->retry);
	kube_cache_free(a->cache);
	api_free(&api_kind_endpoint, a->wanted);
	free(a->name);
	free(a);
	return NULL;
}

int announcer_want(struct announcer *a, const struct endpoint_spec *spec, struct error *err) {
	const struct endpoint e = {.meta.name = a->name, .spec = (struct endpoint_spec *)spec};
	struct endpoint *wanted = spec ? api_copy(&api_kind_endpoint, &e) : NULL;
	if (spec && !wanted)
		return error_set(err, EINVAL, "Endpoint `%s` can't be created", a->name);
	api_free(&api_kind_endpoint, a->wanted);
	a->wanted = wanted;
	a->decided = true;
	announcer_reconcile(a);
	return 0;
}

int announcer_check_ip(const struct kube_cache *pools, const struct addr *ip, struct error *err) {
	const struct addresspool *pool;
	KUBE_CACHE_FOREACH(pool, pools) {
		struct prefix p;
		char text[ADDR_STR_MAX];
		if (pool->spec->prefix && prefix_parse(pool->spec->prefix, &p, NULL) == 0 &&
		    prefix_contains_addr(&p, ip))
			return error_set(
				err, EADDRINUSE,
				"--overlay-ip %s lies in AddressPool %s, whose addresses are given to others; choose "
				"an address outside all pools",
				addr_str(ip, text), pool->meta.name);
	}
	return 0;
}
