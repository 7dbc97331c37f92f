/* SPDX-License-Identifier: Apache-2.0 */

/* Structs that are read and written by a table of their fields: every kind of field, there and back, and what is
 * refused. */

#include "base/testing.h"

#include "base/jsontable.h"
#include "base/util.h"

enum color { COLOR_RED, COLOR_BLUE };
static const char *const jt_words_color[] = {"red", "blue", NULL};

#define PORT_FIELDS(F, T)           \
	F(T, text, name, "name", 4) \
	F(T, i64, vlan, "vlan", 1, 4094, 1)
JT_DECLARE(port, PORT_FIELDS)
JT_DEFINE(port, PORT_FIELDS)

#define BOX_FIELDS(F, T)                  \
	F(T, text, name, "name", 8)       \
	F(T, i64, size, "size", -5, 5, 3) \
	F(T, flag, open, "open")          \
	F(T, word, color, "color", color) \
	F(T, mac, mac, "mac")             \
	F(T, addr, ip, "ip")              \
	F(T, prefix, net, "net")          \
	F(T, obj, main, "main", port)     \
	F(T, list, ports, "ports", port, 2)
JT_DECLARE(box, BOX_FIELDS)
JT_DEFINE(box, BOX_FIELDS)

static struct error error;

static int box_parse(const char *text, struct box *b) {
	_cleanup_(jr_done) struct jr r;

	jt_init(&jt_box, b);
	jr_init(&r, text, strlen(text));
	return jt_read(&jt_box, &r, b, &error);
}

static void what_is_written_is_read(void **state) {
	static const char json[] =
		"{\"name\":\"a\\\"b\",\"size\":-5,\"open\":true,\"color\":\"blue\",\"mac\":\"02:00:00:00:00:05\","
		"\"ip\":\"2001:db8::5\",\"net\":\"2001:db8::/64\",\"main\":{\"vlan\":7},"
		"\"ports\":[{\"name\":\"p\",\"vlan\":1},{\"vlan\":2}]}";
	_buf_free_ struct buf out = {0}, empty = {0};
	struct box b;

	(void)state;
	OK(box_parse(json, &b));
	assert_string_equal(b.name, "a\"b");
	assert_int_equal(b.size, -5);
	assert_true(b.open);
	assert_int_equal(b.color, COLOR_BLUE);
	assert_int_equal(b.main.vlan, 7);
	assert_int_equal(b.n_ports, 2);
	assert_int_equal(b.ports[1].vlan, 2);
	jt_print(&jt_box, &b, &out);
	assert_string_equal(out.data, json);
	OK(box_parse("{}", &b));
	jt_print(&jt_box, &b, &empty);
	assert_string_equal(empty.data, "{\"size\":3,\"color\":\"red\",\"main\":{\"vlan\":1}}");
}

static void what_is_wrong_is_named(void **state) {
	static const struct {
		const char *text, *says;
	} bad[] = {
		{"[]", "an object"},
		{"{\"name\":\"a\"", "the text ends early"},
		{"{\"nam\":\"a\"}", "nam: unknown field"},
		{"{\"size\":1,\"size\":1}", "size: given twice"},
		{"{\"size\":6}", "size: must be -5..5"},
		{"{\"size\":\"1\"}", "size: "},
		{"{\"name\":\"123456789\"}", "name: at most 8 bytes"},
		{"{\"name\":\"a\\nb\"}", "name: control characters"},
		{"{\"open\":1}", "open: "},
		{"{\"color\":\"green\"}", "color: `green` is not a known value"},
		{"{\"mac\":\"01:00:00:00:00:05\"}", "mac: "},
		{"{\"ip\":\"x\"}", "ip: "},
		{"{\"net\":\"2001:db8::1/64\"}", "net: "},
		{"{\"main\":{\"vlan\":0}}", "main: vlan: must be 1..4094"},
		{"{\"main\":{\"name\":\"12345\"}}", "main: name: at most 4 bytes"},
		{"{\"ports\":{}}", "ports: "},
		{"{\"ports\":[{},{},{}]}", "ports: at most 2 elements"},
		{"{\"ports\":[{\"x\":1}]}", "ports: x: unknown field"},
	};
	struct box b;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (box_parse(bad[i].text, &b) != -EINVAL || !strstr(error.msg, bad[i].says))
			fail_msg("%s: `%s`", bad[i].text, error.msg);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(what_is_wrong_is_named),
	};
	return cmocka_run_group_tests_name("jsontable", tests, NULL, NULL);
}
