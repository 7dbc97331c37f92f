/* SPDX-License-Identifier: Apache-2.0 */
#include "base/jsonread.h"

#include <string.h>

void jr_init(struct jr *r, const char *text, size_t len) {
	*r = (struct jr){.start = text, .p = text, .end = text + len};
}

void jr_done(struct jr *r) {
	buf_free(&r->scratch);
}

int jr_fail(struct jr *r, const char *what) {
	if (!r->failed) {
		r->failed = -EINVAL;
		r->what = what;
	}
	return r->failed;
}

int jr_error(const struct jr *r, struct error *err) {
	if (!r->failed)
		return 0;
	return error_set(err, EINVAL, "invalid JSON at byte %zu: %s", (size_t)(r->p - r->start), r->what);
}

static void skip_ws(struct jr *r) {
	while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r'))
		r->p++;
}

int jr_peek(struct jr *r) {
	if (r->failed)
		return r->failed;
	skip_ws(r);
	if (r->p == r->end)
		return jr_fail(r, "the text ends early");
	switch (*r->p) {
	case '{': return JR_OBJECT;
	case '[': return JR_ARRAY;
	case '"': return JR_STRING;
	case 't':
	case 'f': return JR_BOOL;
	case 'n': return JR_NULL;
	case '-':
	case '0' ... '9': return JR_NUMBER;
	default: return jr_fail(r, "expected a value");
	}
}

static int jr_enter(struct jr *r, char open, const char *what) {
	if (r->failed)
		return r->failed;
	skip_ws(r);
	if (r->p == r->end || *r->p != open)
		return jr_fail(r, what);
	if (r->depth >= JR_DEPTH_MAX)
		return jr_fail(r, "nested too deeply");
	r->p++;
	r->depth++;
	r->first = true;
	return 0;
}

int jr_object(struct jr *r) {
	return jr_enter(r, '{', "expected an object");
}

int jr_array(struct jr *r) {
	return jr_enter(r, '[', "expected a list");
}

/* Before a member or element: returns 1 if one follows, 0 if CLOSE follows. */
static int jsonread_next(struct jr *r, char close) {
	if (r->failed)
		return r->failed;
	bool first = r->first;
	r->first = false;
	skip_ws(r);
	if (r->p == r->end)
		return jr_fail(r, "the text ends early");
	if (*r->p == close) {
		r->p++;
		r->depth--;
		return 0;
	}
	if (!first) {
		if (*r->p != ',')
			return jr_fail(r, "expected `,` or a closing bracket");
		r->p++;
	}
	return 1;
}

int jr_elem(struct jr *r) {
	return jsonread_next(r, ']');
}

static unsigned hex4(const char *p, bool *ok) {
	unsigned v = 0;
	for (int i = 0; i < 4; i++) {
		char c = p[i];
		v <<= 4;
		if (c >= '0' && c <= '9')
			v |= (unsigned)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			v |= (unsigned)((c | 32) - 'a' + 10);
		else
			*ok = false;
	}
	return v;
}

static void put_utf8(struct buf *b, unsigned c) {
	char out[4];
	size_t n;
	if (c < 0x80) {
		buf_putc(b, (char)c);
		return;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | (c >> 6));
		out[1] = (char)(0x80 | (c & 0x3f));
		n = 2;
	} else if (c < 0x10000) {
		out[0] = (char)(0xe0 | (c >> 12));
		out[1] = (char)(0x80 | ((c >> 6) & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		n = 3;
	} else {
		out[0] = (char)(0xf0 | (c >> 18));
		out[1] = (char)(0x80 | ((c >> 12) & 0x3f));
		out[2] = (char)(0x80 | ((c >> 6) & 0x3f));
		out[3] = (char)(0x80 | (c & 0x3f));
		n = 4;
	}
	buf_add(b, out, n);
}

/* Length of the UTF-8 sequence at P (RFC 3629, table 3-7 of Unicode), 0 if it is malformed. */
static size_t utf8_len(const char *p, const char *end) {
	unsigned char c = (unsigned char)p[0];
	size_t n = c < 0x80                 ? 1
	           : c >= 0xc2 && c <= 0xdf ? 2
	           : c >= 0xe0 && c <= 0xef ? 3
	           : c >= 0xf0 && c <= 0xf4 ? 4
	                                    : 0;
	if (n == 0 || (size_t)(end - p) < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if (((unsigned char)p[i] & 0xc0) != 0x80)
			return 0;
	unsigned char d = n > 1 ? (unsigned char)p[1] : 0;
	if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d > 0x9f) || (c == 0xf0 && d < 0x90) || (c == 0xf4 && d > 0x8f))
		return 0;
	return n;
}

static int jr_escape(struct jr *r) {
	static const char letters[256] = {['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
	                                  ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t'};
	bool ok = true;
	unsigned c;
	if (r->end - r->p < 2)
		return jr_fail(r, "the text ends inside a string");
	if ((c = (unsigned char)letters[(unsigned char)r->p[1]])) {
		struct buf *b = &r->scratch; /* scratch holds no string at this time */
		if (b->len < b->cap)
			b->data[b->len++] = (char)c;
		else
			buf_putc(b, (char)c);
		r->p += 2;
		return 0;
	}
	switch (r->p[1]) {
	case 'u':
		if (r->end - r->p < 6)
			return jr_fail(r, "the text ends inside a string");
		c = hex4(r->p + 2, &ok);
		if (ok && c >= 0xd800 && c < 0xdc00) {
			if (r->end - r->p < 12 || r->p[6] != '\\' || r->p[7] != 'u')
				return jr_fail(r, "a lone surrogate in a string");
			unsigned low = hex4(r->p + 8, &ok);
			if (low < 0xdc00 || low > 0xdfff)
				return jr_fail(r, "a lone surrogate in a string");
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
			r->p += 6;
		} else if (c >= 0xdc00 && c < 0xe000)
			return jr_fail(r, "a lone surrogate in a string");
		if (!ok)
			return jr_fail(r, "a bad \\u escape in a string");
		if (c == 0)
			return jr_fail(r, "a NUL character in a string");
		r->p += 4;
		break;
	default: return jr_fail(r, "a bad escape in a string");
	}
	r->p += 2;
	put_utf8(&r->scratch, c);
	return 0;
}

/* Skips the plain bytes from P on, eight at a time as long as none of the eight is a quote, a backslash, a control
 * character, or outside ASCII. */
static const char *plain_end(const char *p, const char *end) {
	const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones << 7;
	while (end - p >= 8) {
		uint64_t v;
		memcpy(&v, p, sizeof(v));
		const uint64_t quote = v ^ (ones * '"'), slash = v ^ (ones * '\\');
		if ((v | (v - ones * 0x20) | (quote - ones) | (slash - ones)) & highs)
			break;
		p += 8;
	}
	while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' && *p != '\\')
		p++;
	return p;
}

int jr_string(struct jr *r, const char **ret, size_t *ret_len) {
	if (r->failed)
		return r->failed;
	skip_ws(r);
	if (r->p == r->end || *r->p != '"')
		return jr_fail(r, "expected a string");
	r->p++;
	const char *run = r->p; /* bytes since RUN are not yet in scratch */
	bool escaped = false;
	r->scratch.len = 0;
	for (;;) {
		/* Escapes often follow each other. */
		if (r->p == r->end || *r->p != '\\')
			r->p = plain_end(r->p, r->end);
		if (r->p == r->end)
			return jr_fail(r, "the text ends inside a string");
		unsigned char c = (unsigned char)*r->p;
		if (c == '"')
			break;
		if (c == '\\') {
			escaped = true;
			if (r->p > run)
				buf_add(&r->scratch, run, (size_t)(r->p - run));
			if (jr_escape(r) < 0)
				return r->failed;
			run = r->p;
		} else if (c < 0x20)
			return jr_fail(r, "a control character in a string");
		else {
			size_t n = utf8_len(r->p, r->end);
			if (n == 0)
				return jr_fail(r, "a string is not valid UTF-8");
			r->p += n;
		}
	}
	if (escaped) {
		buf_add(&r->scratch, run, (size_t)(r->p - run));
		if (r->scratch.failed)
			return jr_fail(r, "out of memory");
		*ret = r->scratch.data ? r->scratch.data : "";
		*ret_len = r->scratch.len;
	} else {
		*ret = run;
		*ret_len = (size_t)(r->p - run);
	}
	r->p++;
	return 0;
}

int jr_key(struct jr *r, const char **ret_key, size_t *ret_len) {
	int n = jsonread_next(r, '}');
	if (n <= 0)
		return n;
	if (jr_string(r, ret_key, ret_len) < 0)
		return r->failed;
	skip_ws(r);
	if (r->p == r->end || *r->p != ':')
		return jr_fail(r, "expected `:` after a key");
	r->p++;
	return 1;
}

/* The span of a number in RFC 8259's grammar. */
static int jr_number(struct jr *r, const char **ret_start, bool *ret_integer) {
	skip_ws(r);
	const char *s = r->p, *p = s;
	*ret_integer = true;
	if (p < r->end && *p == '-')
		p++;
	const char *digits = p;
	while (p < r->end && *p >= '0' && *p <= '9')
		p++;
	if (p == digits || (*digits == '0' && p - digits > 1))
		return jr_fail(r, "a malformed number");
	if (p < r->end && *p == '.') {
		const char *frac = ++p;
		*ret_integer = false;
		while (p < r->end && *p >= '0' && *p <= '9')
			p++;
		if (p == frac)
			return jr_fail(r, "a malformed number");
	}
	if (p < r->end && (*p == 'e' || *p == 'E')) {
		*ret_integer = false;
		p++;
		if (p < r->end && (*p == '+' || *p == '-'))
			p++;
		const char *exp = p;
		while (p < r->end && *p >= '0' && *p <= '9')
			p++;
		if (p == exp)
			return jr_fail(r, "a malformed number");
	}
	r->p = p;
	*ret_start = s;
	return 0;
}

int jr_i64(struct jr *r, int64_t *ret) {
	const char *s;
	bool integer;
	if (r->failed)
		return r->failed;
	if (jr_number(r, &s, &integer) < 0)
		return r->failed;
	if (!integer) {
		char text[64];
		size_t n = (size_t)(r->p - s);
		if (n >= sizeof(text))
			return jr_fail(r, "expected a whole number");
		memcpy(text, s, n);
		text[n] = 0;
		double d = strtod(text, NULL);
		if (!(d > -9007199254740992.0 && d < 9007199254740992.0) || (double)(int64_t)d != d)
			return jr_fail(r, "expected a whole number");
		*ret = (int64_t)d;
		return 0;
	}
	bool neg = *s == '-';
	int64_t v = 0;
	for (const char *p = s + neg; p < r->p; p++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    (neg ? __builtin_sub_overflow(v, *p - '0', &v) : __builtin_add_overflow(v, *p - '0', &v)))
			return jr_fail(r, "a number out of range");
	*ret = v;
	return 0;
}

static int literal(struct jr *r, const char *word) {
	size_t n = strlen(word);
	if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n) != 0)
		return 0;
	r->p += n;
	return 1;
}

int jr_bool(struct jr *r, bool *ret) {
	if (r->failed)
		return r->failed;
	skip_ws(r);
	if (literal(r, "true"))
		*ret = true;
	else if (literal(r, "false"))
		*ret = false;
	else
		return jr_fail(r, "expected true or false");
	return 0;
}

int jr_null(struct jr *r) {
	if (r->failed)
		return r->failed;
	skip_ws(r);
	return literal(r, "null") ? 0 : jr_fail(r, "expected null");
}

static int jr_skip_value(struct jr *r) {
	const char *s;
	size_t n;
	bool b;
	int more;
	switch (jr_peek(r)) {
	case JR_OBJECT:
		if (jr_object(r) < 0)
			return r->failed;
		while ((more = jr_key(r, &s, &n)) > 0)
			if (jr_skip_value(r) < 0)
				return r->failed;
		return more;
	case JR_ARRAY:
		if (jr_array(r) < 0)
			return r->failed;
		while ((more = jr_elem(r)) > 0)
			if (jr_skip_value(r) < 0)
				return r->failed;
		return more;
	case JR_STRING: return jr_string(r, &s, &n);
	case JR_NUMBER: return jr_number(r, &s, &b);
	case JR_BOOL: return jr_bool(r, &b);
	case JR_NULL: return jr_null(r);
	default: return r->failed;
	}
}

int jr_skip(struct jr *r, const char **ret, size_t *ret_len) {
	if (r->failed)
		return r->failed;
	skip_ws(r);
	const char *s = r->p;
	if (jr_skip_value(r) < 0)
		return r->failed;
	/* A container inside the value has cleared `first`; the container around the value now has had its first
	 * member. */
	r->first = false;
	if (ret) {
		*ret = s;
		*ret_len = (size_t)(r->p - s);
	}
	return 0;
}

int jr_end(struct jr *r) {
	if (r->failed)
		return r->failed;
	skip_ws(r);
	return r->p == r->end ? 0 : jr_fail(r, "more text after the value");
}
