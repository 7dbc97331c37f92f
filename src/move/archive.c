/* SPDX-License-Identifier: Apache-2.0 */
#include "move/archive.h"

#include <fcntl.h>
#include <gnutls/crypto.h>
#include <string.h>

#include "base/util.h"
#include "move/object.h"

#define KIND    "Export"
#define VERSION "nacre.dev/v1alpha1"
#define SUM_LEN 32

struct archive {
	char *path, *part;
	int fd;
	gnutls_hash_hd_t sum;
	struct buf out; /* not written yet */
	size_t count;
	bool finished;
};

static void hex(const uint8_t sum[static SUM_LEN], char out[static 2 * SUM_LEN + 1]) {
	for (size_t i = 0; i < SUM_LEN; i++)
		snprintf(out + 2 * i, 3, "%02x", sum[i]);
}

/* ---- write ---- */

static int flush(struct archive *a, struct error *err) {
	int r = buf_error(&a->out, a->part, err);
	if (r == 0)
		r = write_all(a->fd, a->out.data, a->out.len, err);
	if (r < 0)
		return error_prefix(err, "`%s`", a->part);
	buf_reset(&a->out);
	return 0;
}

/* Adds LINE and its newline. Takes ownership of LINE; NULL is treated as a lack of memory. */
static int add_line(struct archive *a, char *line, struct error *err) {
	_free_ char *text = line;
	size_t before = a->out.len;
	if (!text)
		return error_oom(err);
	buf_puts(&a->out, text);
	buf_putc(&a->out, '\n');
	int r = buf_error(&a->out, a->part, err);
	if (r < 0)
		return r;
	if (gnutls_hash(a->sum, a->out.data + before, a->out.len - before) < 0)
		return error_set(err, EIO, "SHA-256 of `%s` can't be computed", a->part);
	return a->out.len < (size_t)1 << 20 ? 0 : flush(a, err);
}

int archive_create(struct archive **ret, const char *path, const char *server, struct error *err) {
	_cleanup_(cleanup_archive) struct archive *a = calloc(1, sizeof(*a));
	char now[TIME_STR_MAX];
	if (!a)
		return error_oom(err);
	a->fd = -1;
	a->path = strdup(path);
	a->part = strf("%s.part", path);
	if (!a->path || !a->part)
		return error_oom(err);
	if (gnutls_hash_init(&a->sum, GNUTLS_DIG_SHA256) < 0)
		return error_set(err, ENOMEM, "start SHA-256");
	/* A file left by an earlier attempt may be readable by others, so it is removed and a new one created. */
	if (unlink(a->part) < 0 && errno != ENOENT)
		return error_errno(err, errno, "remove `%s`", a->part);
	a->fd = open(a->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (a->fd < 0)
		return error_errno(err, errno, "create `%s`", a->part);
	json_t *head = json_pack("{s:s, s:s, s:s, s:s}", "apiVersion", VERSION, "kind", KIND, "server", server, "time",
	                         time_str(now_realtime_us(), false, now));
	int r = add_line(a, head ? json_dumps(head, JSON_COMPACT) : NULL, err);
	json_decref(head);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(a);
	return 0;
}

int archive_add(struct archive *a, const json_t *obj, struct error *err) {
	if (a->count == ARCHIVE_OBJECTS_MAX)
		return error_set(err, E2BIG, "there are more than %d objects", ARCHIVE_OBJECTS_MAX);
	int r = add_line(a, json_dumps(obj, JSON_COMPACT), err);
	if (r == 0)
		a->count++;
	return r;
}

int archive_finish(struct archive *a, struct error *err) {
	uint8_t sum[SUM_LEN];
	char text[2 * SUM_LEN + 1];
	gnutls_hash_output(a->sum, sum);
	hex(sum, text);
	buf_printf(&a->out, "{\"objects\":%zu,\"sha256\":\"%s\"}\n", a->count, text);
	int r = flush(a, err);
	if (r < 0)
		return r;
	r = rename_durable(a->part, a->path, err);
	a->finished = r == 0;
	return r;
}

size_t archive_count(const struct archive *a) {
	return a->count;
}

struct archive *archive_free(struct archive *a) {
	if (!a)
		return NULL;
	if (a->fd >= 0 && !a->finished)
		unlink(a->part);
	safe_close(a->fd);
	if (a->sum)
		gnutls_hash_deinit(a->sum, NULL);
	buf_free(&a->out);
	free(a->path);
	free(a->part);
	free(a);
	return NULL;
}

/* ---- read ---- */

static json_t *archive_load(const char *line, size_t len) {
	return json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
}

static bool is(const json_t *obj, const char *key, const char *value) {
	return streq(json_string_value(json_object_get(obj, key)), value);
}

/* Checks the last line. BODY is the text before it. */
static int check_end(const char *body, size_t body_len, const char *line, size_t len, const char *path, size_t *ret,
                     struct error *err) {
	uint8_t sum[SUM_LEN];
	char text[2 * SUM_LEN + 1];
	json_t *end = archive_load(line, len);
	json_int_t objects = json_integer_value(json_object_get(end, "objects"));
	bool there = end && json_object_get(end, "sha256");
	if (there && gnutls_hash_fast(GNUTLS_DIG_SHA256, body, body_len, sum) == 0)
		hex(sum, text);
	else
		*text = '\0';
	bool same = there && is(end, "sha256", text);
	json_decref(end);
	if (!there)
		return error_set(err, EBADMSG, "`%s` is cut off: its last line is not the end of an export", path);
	if (!same || objects < 0 || objects > ARCHIVE_OBJECTS_MAX)
		return error_set(err, EBADMSG,
		                 "`%s` was changed or damaged: its SHA-256 differs from the one in its last line",
		                 path);
	*ret = (size_t)objects;
	return 0;
}

static int check_head(const char *line, size_t len, const char *path, struct error *err) {
	json_t *head = archive_load(line, len);
	bool good = is(head, "kind", KIND) && is(head, "apiVersion", VERSION);
	json_decref(head);
	return good ? 0
	            : error_set(err, EBADMSG,
	                        "`%s` is not a file of nacre export (%s, %s), or another version wrote it", path, KIND,
	                        VERSION);
}

static int add_object(json_t *list, const char *line, size_t len, size_t number, const char *path, struct error *err) {
	json_t *obj = archive_load(line, len);
	int r = obj ? object_check(obj, err) : error_set(err, EBADMSG, "is not a JSON object");
	if (r == 0)
		return json_array_append_new(list, obj) < 0 ? error_oom(err) : 0;
	json_decref(obj);
	return error_prefix(err, "`%s`, line %zu", path, number);
}

static int parse_lines(const char *text, const char *end, const char *path, json_t *list, struct error *err) {
	for (size_t number = 1; text < end; number++) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		size_t len = (size_t)(nl - text);
		if (len > ARCHIVE_LINE_MAX)
			return error_set(err, EFBIG, "`%s`, line %zu: is longer than %zu bytes", path, number,
			                 ARCHIVE_LINE_MAX);
		int r = number == 1 ? check_head(text, len, path, err) : add_object(list, text, len, number, path, err);
		if (r < 0)
			return r;
		text = nl + 1;
	}
	return 0;
}

int archive_parse(const char *text, size_t len, const char *path, json_t **ret, struct error *err) {
	size_t objects;
	const char *nl = memchr(text, '\n', len);
	size_t first = nl ? (size_t)(nl - text) : len;
	int r = check_head(text, first, path, err);
	if (r < 0)
		return r;
	if (text[len - 1] != '\n')
		return error_set(err, EBADMSG, "`%s` is cut off: its last line has no end", path);
	const char *last = memrchr(text, '\n', len - 1);
	last = last ? last + 1 : text;
	r = check_end(text, (size_t)(last - text), last, (size_t)(text + len - 1 - last), path, &objects, err);
	if (r < 0)
		return r;
	json_t *list = json_array();
	r = list ? parse_lines(text, last, path, list, err) : error_oom(err);
	if (r == 0 && json_array_size(list) != objects)
		r = error_set(err, EBADMSG, "`%s` has %zu objects, but its last line says %zu", path,
		              json_array_size(list), objects);
	if (r < 0) {
		json_decref(list);
		return r;
	}
	*ret = list;
	return 0;
}

int archive_read(const char *path, json_t **ret, struct error *err) {
	_free_ char *text = NULL;
	size_t len;
	int r = read_file(path, ARCHIVE_SIZE_MAX, &text, &len, err);
	if (r == 0 && strlen(text) != len)
		r = error_set(err, EBADMSG, "`%s` has bytes that are not text", path);
	return r < 0 ? r : archive_parse(text, len, path, ret, err);
}
