/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/text.h"

#include <ctype.h>
#include <string.h>

#include "base/util.h"

static int text_hex_digit(char c) {
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads LEAST to MOST hexadecimal digits and moves *P behind them. */
static bool text_take_hex(const char **p, unsigned least, unsigned most, uint32_t *ret) {
	uint32_t v = 0;
	unsigned n = 0;
	for (int d; n < most && (d = text_hex_digit(**p)) >= 0; n++, (*p)++)
		v = v << 4 | (uint32_t)d;
	*ret = v;
	return n >= least;
}

static bool text_take(const char **p, char c) {
	if (**p != c)
		return false;
	(*p)++;
	return true;
}

bool hw_address_parse(const char *s, struct hw_address *ret) {
	uint32_t domain, bus, device, function;
	if (!text_take_hex(&s, 4, 8, &domain) || !text_take(&s, ':') || !text_take_hex(&s, 2, 2, &bus) ||
	    !text_take(&s, ':') || !text_take_hex(&s, 2, 2, &device) || !text_take(&s, '.') ||
	    !text_take_hex(&s, 1, 1, &function) || *s || device > 31 || function > 7)
		return false;
	*ret = (struct hw_address){domain, (uint8_t)bus, (uint8_t)device, (uint8_t)function};
	return true;
}

const char *hw_address_str(const struct hw_address *a, char out[static HW_ADDRESS_MAX + 1]) {
	snprintf(out, HW_ADDRESS_MAX + 1, "%04x:%02x:%02x.%x", a->domain, a->bus, a->device, a->function);
	return out;
}

int hw_address_cmp(const struct hw_address *a, const struct hw_address *b) {
	if (a->domain != b->domain)
		return a->domain < b->domain ? -1 : 1;
	uint32_t x = (uint32_t)(a->bus << 16 | a->device << 8 | a->function);
	uint32_t y = (uint32_t)(b->bus << 16 | b->device << 8 | b->function);
	return x < y ? -1 : x > y;
}

bool hw_bus_parse(const char *s, uint32_t *ret_domain, uint8_t *ret_bus) {
	uint32_t domain, bus;
	if (!text_take_hex(&s, 4, 8, &domain) || !text_take(&s, ':') || !text_take_hex(&s, 2, 2, &bus) || *s)
		return false;
	*ret_domain = domain;
	*ret_bus = (uint8_t)bus;
	return true;
}

bool hw_hex_parse(const char *s, unsigned digits, uint32_t *ret) {
	uint32_t v;
	if (starts_with(s, "0x"))
		s += 2;
	if (!text_take_hex(&s, 1, digits, &v) || *s)
		return false;
	*ret = v;
	return true;
}

void hw_ids_print(uint32_t vendor, uint32_t device, char out[static 10]) {
	snprintf(out, 10, "%04x:%04x", vendor & 0xffff, device & 0xffff);
}

bool hw_name_copy(char *out, size_t max, const char *s) {
	size_t n = strlen(s);
	if (n == 0 || n > max || streq(s, ".") || streq(s, ".."))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9') ||
		      strchr("_.:-", s[i])))
			return false;
	memcpy(out, s, n + 1);
	return true;
}

bool hw_set_has(const struct hw_set *s, unsigned bit) {
	return bit < HW_SET_BITS && (s->words[bit / 64] >> bit % 64 & 1);
}

void hw_set_add(struct hw_set *s, unsigned bit) {
	s->words[bit / 64] |= (uint64_t)1 << bit % 64;
}

void hw_set_merge(struct hw_set *s, const struct hw_set *more) {
	for (size_t i = 0; i < ARRAY_SIZE(s->words); i++)
		s->words[i] |= more->words[i];
}

bool hw_set_is_empty(const struct hw_set *s) {
	return hw_set_first(s) < 0;
}

bool hw_set_equal(const struct hw_set *a, const struct hw_set *b) {
	return memcmp(a, b, sizeof(*a)) == 0;
}

bool hw_set_overlaps(const struct hw_set *a, const struct hw_set *b) {
	for (size_t i = 0; i < ARRAY_SIZE(a->words); i++)
		if (a->words[i] & b->words[i])
			return true;
	return false;
}

unsigned hw_set_count(const struct hw_set *s) {
	unsigned n = 0;
	for (size_t i = 0; i < ARRAY_SIZE(s->words); i++)
		n += (unsigned)__builtin_popcountll(s->words[i]);
	return n;
}

int hw_set_next(const struct hw_set *s, int after) {
	unsigned bit = (unsigned)(after + 1);
	for (size_t i = bit / 64; i < ARRAY_SIZE(s->words); i++, bit = (unsigned)i * 64) {
		uint64_t left = s->words[i] >> bit % 64;
		if (left)
			return (int)bit + __builtin_ctzll(left);
	}
	return -1;
}

int hw_set_first(const struct hw_set *s) {
	return hw_set_next(s, -1);
}

/* A decimal number below HW_SET_BITS. */
static int text_take_bit(const char **p, unsigned *ret) {
	unsigned v = 0, n = 0;
	for (; **p >= '0' && **p <= '9' && n < 6; (*p)++, n++)
		v = v * 10 + (unsigned)(**p - '0');
	if (n == 0)
		return -EINVAL;
	*ret = v;
	return v < HW_SET_BITS ? 0 : -ERANGE;
}

int hw_set_parse_list(const char *s, struct hw_set *ret) {
	struct hw_set set = {0};
	/* The kernel's lists ascend. Others could name the same 4096 CPUs thousands of times. */
	for (int before = -1; *s;) {
		unsigned first = 0, last = 0;
		int r = text_take_bit(&s, &first);
		last = first;
		if (r == 0 && text_take(&s, '-'))
			r = text_take_bit(&s, &last);
		if (r < 0)
			return r;
		if ((int)first <= before || last < first || (*s && (!text_take(&s, ',') || !*s)))
			return -EINVAL;
		for (unsigned i = first; i <= last; i++)
			hw_set_add(&set, i);
		before = (int)last;
	}
	*ret = set;
	return 0;
}

static int hw_set_put_word(struct hw_set *s, size_t index, uint32_t value) {
	if (value && index >= HW_SET_BITS / 32)
		return -ERANGE;
	if (value)
		s->words[index / 2] |= (uint64_t)value << (index % 2 ? 32 : 0);
	return 0;
}

/* Words of 32 bits, the most significant one first, separated by commas. */
static int hw_set_parse_words(const char *s, bool hwloc, struct hw_set *ret) {
	struct hw_set set = {0};
	size_t words = 1;
	for (const char *p = s; *p; p++)
		words += *p == ',';
	for (size_t i = words; i-- > 0;) {
		uint32_t v = 0;
		bool empty = *s == ',' || !*s;
		if (hwloc && !empty && !starts_with(s, "0x"))
			return -EINVAL;
		if (hwloc && !empty)
			s += 2;
		if (empty ? !hwloc : !text_take_hex(&s, 1, 8, &v))
			return -EINVAL;
		if (i > 0 ? !text_take(&s, ',') : *s)
			return -EINVAL;
		int r = hw_set_put_word(&set, i, v);
		if (r < 0)
			return r;
	}
	*ret = set;
	return 0;
}

int hw_set_parse_mask(const char *s, struct hw_set *ret) {
	return hw_set_parse_words(s, false, ret);
}

int hw_set_parse_hwloc(const char *s, struct hw_set *ret) {
	return *s ? hw_set_parse_words(s, true, ret) : -EINVAL;
}

int hw_set_print(const struct hw_set *s, char *out, size_t size) {
	size_t n = 0;
	out[0] = 0;
	for (int first = hw_set_first(s), last; first >= 0; first = hw_set_next(s, last)) {
		for (last = first; hw_set_has(s, (unsigned)last + 1); last++)
			;
		int len = first == last ? snprintf(out + n, size - n, "%s%d", n ? "," : "", first)
		                        : snprintf(out + n, size - n, "%s%d-%d", n ? "," : "", first, last);
		if ((size_t)len >= size - n)
			return -ENOSPC;
		n += (size_t)len;
	}
	return 0;
}

int hw_speed_parse(const char *s, int64_t *ret) {
	static const struct {
		const char *text;
		int64_t speed;
	} speeds[] = {{"2.5", 2500},   {"5", 5000},   {"5.0", 5000},   {"8", 8000},
	              {"8.0", 8000},   {"16", 16000}, {"16.0", 16000}, {"32", 32000},
	              {"32.0", 32000}, {"64", 64000}, {"64.0", 64000}, {"128.0", 128000}};
	if (!*s || starts_with(s, "Unknown")) {
		*ret = 0;
		return 0;
	}
	size_t n = strcspn(s, " ");
	if (!starts_with(s + n, " GT/s") || (s[n + 5] && !streq(s + n + 5, " PCIe")))
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(speeds); i++)
		if (strlen(speeds[i].text) == n && memcmp(speeds[i].text, s, n) == 0) {
			*ret = speeds[i].speed;
			return 0;
		}
	return -EINVAL;
}

int hw_width_parse(const char *s, int64_t *ret) {
	int64_t v;
	if (!*s) {
		*ret = 0;
		return 0;
	}
	if (parse_i64(s, 0, 255, &v, NULL) < 0)
		return -EINVAL;
	switch (v) {
	case 0:
	case 63:
	case 255: *ret = 0; return 0;
	case 1:
	case 2:
	case 4:
	case 8:
	case 12:
	case 16:
	case 32: *ret = v; return 0;
	default: return -EINVAL;
	}
}

int64_t hw_throughput(int64_t speed, int64_t width) {
	/* 8b/10b up to 5 GT/s, 128b/130b up to 32 GT/s; 64 GT/s and more have flits of 256 bytes, 242 of which are
	 * payload. */
	if (speed <= 5000)
		return speed * width / 10;
	if (speed <= 32000)
		return speed * width * 128 / 130 / 8;
	return speed * width * 242 / 256 / 8;
}
