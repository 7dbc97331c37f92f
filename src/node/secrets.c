/* SPDX-License-Identifier: Apache-2.0 */
#include "node/secrets.h"

#include <stdlib.h>
#include <string.h>

#include "api/account.h"
#include "base/base64.h"
#include "base/tree.h"
#include "base/util.h"

/* A value that was got is asked for again after 4 to 6 minutes, at another time on each host. */
#define REFRESH_MIN_US    (240 * USEC_PER_SEC)
#define REFRESH_SPREAD_US (120 * USEC_PER_SEC)
/* The delay after a failure doubles from here up to there. */
#define RETRY_US     (USEC_PER_SEC / 4)
#define RETRY_MAX_US (30 * USEC_PER_SEC)
/* The grant and the first question begin at the same moment; so many refusals are no news. */
#define REFUSALS_EXPECTED 3

enum secret_state { SECRET_UNKNOWN, SECRET_KNOWN, SECRET_MISSING, SECRET_NO_KEY, SECRET_FORBIDDEN, SECRET_INVALID };

struct secret_value {
	RB_ENTRY(secret_value) node;
	struct secrets *s;
	unsigned users; /* how often Instances name it */
	unsigned failures;
	enum secret_state state;
	bool refused;     /* by secrets_refuse() */
	bool again;       /* something changed while it was asked for */
	struct buf value; /* only if the state is SECRET_KNOWN */
	sd_event_source *timer;
	struct kube_request *request;
	const char *ns, *secret, *key; /* in `text` */
	char id[64 + 254 + 254];       /* NS/SECRET/KEY */
	char text[64 + 254 + 254];
};

static int secret_value_cmp(const struct secret_value *a, const struct secret_value *b) {
	return strcmp(a->id, b->id);
}
RB_HEAD(secret_values, secret_value);
RB_GENERATE_INTERNAL(secret_values, secret_value, node, secret_value_cmp, _unused_ static)

struct secrets {
	struct kube_client *client;
	void (*changed)(void *userdata, const char *ns, const char *secret);
	void *userdata;
	struct secret_values all;
};

static void secret_value_clear(struct secret_value *v) {
	if (v->value.data)
		explicit_bzero(v->value.data, v->value.len);
	buf_free(&v->value);
	v->value = (struct buf){.max = INSTANCE_SECRET_DATA_MAX + 1};
}

static void secret_value_free(struct secret_value *v) {
	RB_REMOVE(secret_values, &v->s->all, v);
	kube_request_cancel(&v->request);
	sd_event_source_disable_unref(v->timer);
	secret_value_clear(v);
	free(v);
}

/* ---- asking ---- */

static void secret_ask_after(struct secret_value *v, uint64_t delay_us);

/* Takes the state and, with SECRET_KNOWN, the content of BYTES. */
static void secret_set(struct secret_value *v, enum secret_state state, struct buf *bytes) {
	const bool same =
		v->state == state &&
		(state != SECRET_KNOWN || (v->value.len == bytes->len &&
	                                   (bytes->len == 0 || memcmp(v->value.data, bytes->data, bytes->len) == 0)));

	if (same)
		return;
	secret_value_clear(v);
	v->state = state;
	v->refused = false;
	if (state == SECRET_KNOWN) {
		v->value = *bytes;
		*bytes = (struct buf){0};
	}
	v->s->changed(v->s->userdata, v->ns, v->secret);
}

/* Reads the value out of the answer. */
static enum secret_state secret_read(const struct secret_value *v, const struct kube_response *r, struct buf *out) {
	struct secret *obj = NULL;
	enum secret_state state = SECRET_KNOWN;
	size_t at;

	if (kube_response_parse(r, &api_kind_secret, (void **)&obj, NULL) < 0)
		return SECRET_INVALID;
	const char *text = api_map_get(&obj->data, v->key);
	if (!text)
		state = SECRET_NO_KEY;
	else if (base64_decode(out, text, strlen(text), &at) < 0 || out->failed || out->len > INSTANCE_SECRET_DATA_MAX)
		state = SECRET_INVALID;
	for (size_t i = 0; i < obj->data.n; i++)
		explicit_bzero(obj->data.v[i].value, strlen(obj->data.v[i].value));
	api_free(&api_kind_secret, obj);
	return state;
}

static void secret_answered(const struct kube_response *r, void *userdata) {
	struct secret_value *v = userdata;
	_buf_free_ struct buf bytes = {.max = INSTANCE_SECRET_DATA_MAX + 1};
	enum secret_state state = v->state;

	if (r->error == 0)
		state = secret_read(v, r, &bytes);
	else if (r->error == -ENOENT)
		state = SECRET_MISSING;
	else if (r->error == -EACCES && v->failures >= REFUSALS_EXPECTED)
		state = SECRET_FORBIDDEN;
	if (r->error == 0 || state != v->state)
		secret_set(v, state, &bytes);
	if (bytes.data)
		explicit_bzero(bytes.data, bytes.len);
	if (v->again) {
		v->again = false;
		secret_ask_after(v, 0);
	} else if (r->error == 0 && state == SECRET_KNOWN && !v->refused) {
		uint32_t spread;
		random_bytes(&spread, sizeof(spread));
		v->failures = 0;
		secret_ask_after(v, REFRESH_MIN_US + spread % REFRESH_SPREAD_US);
	} else {
		const uint64_t delay = RETRY_US << MIN(v->failures, 10U);
		v->failures++;
		secret_ask_after(v, MIN(delay, RETRY_MAX_US));
	}
}

/* Asks now, or once more after the answer that is under way, which may be older. */
static void secret_ask(struct secret_value *v) {
	if (v->request)
		v->again = true;
	else
		secret_ask_after(v, 0);
}

static int secret_on_time(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
	struct secret_value *v = userdata;

	if (v->request)
		return 0;
	if (kube_get(v->s->client, &api_kind_secret, v->ns, v->secret, KUBE_CALL(secret_answered, v, &v->request),
	             NULL) < 0)
		secret_ask_after(v, RETRY_MAX_US);
	return 0;
}

static void secret_ask_after(struct secret_value *v, uint64_t delay_us) {
	if (loop_timer(kube_client_loop(v->s->client), &v->timer, delay_us, secret_on_time, v) < 0)
		abort(); /* it would never be asked for again */
}

/* ---- which ---- */

static struct secret_value *secret_find(const struct secrets *s, const char *ns, const struct instance_secret *what) {
	char id[sizeof(((struct secret_value *)0)->id)];

	snprintf(id, sizeof(id), "%s/%s/%s", ns, what->secret, what->key);
	return TREE_FIND_STRING(secret_value, &s->all, node, id, id);
}

static void secret_hold(struct secrets *s, const char *ns, const struct instance_secret *what) {
	struct secret_value *v = secret_find(s, ns, what);

	if (!v) {
		v = calloc(1, sizeof(*v));
		if (!v)
			abort(); /* the instance would wait for ever */
		v->s = s;
		snprintf(v->id, sizeof(v->id), "%s/%s/%s", ns, what->secret, what->key);
		memcpy(v->text, v->id, sizeof(v->text));
		char *secret = strchr(v->text, '/'), *key = strchr(secret + 1, '/');
		*secret++ = *key++ = 0;
		v->ns = v->text;
		v->secret = secret;
		v->key = key;
		secret_value_clear(v);
		RB_INSERT(secret_values, &s->all, v);
		secret_ask_after(v, 0);
	}
	v->users++;
}

static void secret_release(struct secrets *s, const char *ns, const struct instance_secret *what) {
	struct secret_value *v = secret_find(s, ns, what);

	if (v && --v->users == 0)
		secret_value_free(v);
}

void secrets_follow(struct secrets *s, const struct instance *was, const struct instance *is) {
	const bool changed = was && is && was->meta.generation.v != is->meta.generation.v;
	struct instance_secret what;

	for (unsigned k = 0; is && k < N_INSTANCE_SECRETS; k++)
		if (instance_secret(is->spec, k, &what)) {
			secret_hold(s, is->meta.ns, &what);
			if (changed)
				secret_ask(secret_find(s, is->meta.ns, &what));
		}
	for (unsigned k = 0; was && k < N_INSTANCE_SECRETS; k++)
		if (instance_secret(was->spec, k, &what))
			secret_release(s, was->meta.ns, &what);
}

void secrets_refuse(struct secrets *s, const char *ns, const struct instance_secret *what) {
	struct secret_value *v = secret_find(s, ns, what);

	if (!v || v->refused)
		return;
	v->refused = true;
	v->failures = 0;
	secret_ask_after(v, RETRY_US);
}

int secrets_get(const struct secrets *s, const char *ns, const struct instance_secret *what, const char **ret,
                size_t *ret_len, const char **ret_reason, struct error *err) {
	const struct secret_value *v = secret_find(s, ns, what);

	*ret_reason = "SecretMissing";
	switch (v ? v->state : SECRET_UNKNOWN) {
	case SECRET_KNOWN:
		*ret = v->value.data ? v->value.data : "";
		*ret_len = v->value.len;
		return 0;
	case SECRET_UNKNOWN: return error_set(err, EAGAIN, "Secret `%s` has not been read yet", what->secret);
	case SECRET_MISSING:
		return error_set(err, ENOENT, "Secret `%s` of spec.%s does not exist: create it with key `%s`",
		                 what->secret, what->field, what->key);
	case SECRET_NO_KEY:
		return error_set(err, ENOENT, "Secret `%s` has no key `%s`: add it, or correct spec.%s.key",
		                 what->secret, what->key, what->field);
	case SECRET_FORBIDDEN:
		*ret_reason = "SecretForbidden";
		return error_set(
			err, EACCES,
			"the host's agent may not get Secret `%s` of spec.%s: is nacre-controller running, which "
			"grants that?",
			what->secret, what->field);
	default:
		*ret_reason = "SecretInvalid";
		return error_set(err, EINVAL,
		                 "key `%s` of Secret `%s` of spec.%s can't be used: it must be at most %d bytes",
		                 what->key, what->secret, what->field, INSTANCE_SECRET_DATA_MAX);
	}
}

int secrets_new(struct secrets **ret, struct kube_client *client,
                void (*changed)(void *userdata, const char *ns, const char *secret), void *userdata,
                struct error *err) {
	struct secrets *s = calloc(1, sizeof(*s));

	if (!s)
		return error_oom(err);
	*s = (struct secrets){.client = client, .changed = changed, .userdata = userdata};
	RB_INIT(&s->all);
	*ret = s;
	return 0;
}

struct secrets *secrets_free(struct secrets *s) {
	struct secret_value *v;

	while (s && (v = RB_MIN(secret_values, &s->all)))
		secret_value_free(v);
	free(s);
	return NULL;
}
