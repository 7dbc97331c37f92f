/* SPDX-License-Identifier: Apache-2.0 */
#include "node/instdir.h"

#include <string.h>

#include "base/util.h"
#include "node/container.h"
#include "vm/config.h"
#include "vm/control.h"

int instdir_uid(const char *dir, uid_t *ret) {
	_free_ char *path = strf("%s/" CONTAINER_CONFIG, dir), *text = NULL;
	struct vm_config c;
	size_t len;

	if (!path)
		return -ENOMEM;
	int r = read_file(path, VM_CONFIG_MAX, &text, &len, NULL);
	if (r >= 0)
		r = vm_config_parse(text, len, &c, NULL);
	if (r < 0)
		return r;
	*ret = (uid_t)c.uid;
	return 0;
}

static int read_end(const char *dir, struct vm_status *ret) {
	_free_ char *path = strf("%s/exit.json", dir), *text = NULL;
	size_t len;
	int r = path ? read_file(path, CONTROL_LINE_MAX, &text, &len, NULL) : -ENOMEM;

	return r < 0 ? r : vm_status_parse(text, len, ret, NULL);
}

void instdir_end(const char *dir, struct vm_status *ret) {
	if (read_end(dir, ret) == 0 && ret->end != VM_END_NONE)
		return;
	*ret = (struct vm_status){.state = VM_ENDED, .end = VM_END_KILLED, .since_us = now_realtime_us()};
	snprintf(ret->message, sizeof(ret->message), "nacre-vm was killed");
}
