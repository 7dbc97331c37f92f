/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/read.h"

#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "hw/readers.h"

#define DIR_TRIES 5 /* while devices come and go */

int hw_read_fs(const struct hw_fs *fs, struct hw_host **ret, struct error *err) {
	_hw_raws_clear_ struct hw_raws raws = {0};
	_hw_free_ struct hw_host *h = hw_new();
	int r = h ? hw_sysfs_read_processors(fs, h, err) : error_oom(err);
	if (r == 0)
		r = hw_sysfs_read_pci(fs, &raws, err);
	if (r == 0)
		r = hw_build(&raws, h, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(h);
	return 0;
}

int hw_read_text(const char *text, size_t len, struct hw_host **ret, struct error *err) {
	size_t start = 0;
	while (start < len && strchr(" \t\r\n", text[start]) && text[start])
		start++;
	if (start < len && text[start] == '{')
		return hw_parse(text, len, ret, err);
	_xml_clear_ struct xml_doc d = {0};
	_hw_raws_clear_ struct hw_raws raws = {0};
	_hw_free_ struct hw_host *h = NULL;
	int r = xml_parse(text, len, &d, err);
	if (r < 0)
		return r;
	h = hw_new();
	if (!h)
		return error_oom(err);
	if (streq(d.els[0].name, "topology"))
		r = hw_hwloc_read(&d, h, &raws, err);
	else if (streq(d.els[0].name, "system"))
		r = hw_nccl_read(&d, h, &raws, err);
	else
		r = error_set(err, EINVAL, "<%s> is neither hwloc's <topology> nor NCCL's <system>", d.els[0].name);
	if (r == 0)
		r = hw_build(&raws, h, err);
	if (r == 0 && streq(d.els[0].name, "system"))
		r = hw_nccl_read_links(&d, h, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(h);
	return 0;
}

static int hw_read_dir(const char *path, struct hw_host **ret, struct error *err) {
	_hw_fs_close_ struct hw_fs fs = {0};
	int r = hw_fs_open(path, &fs, err);
	if (r < 0)
		return r;
	r = -EAGAIN;
	for (int i = 0; r == -EAGAIN && i < DIR_TRIES; i++)
		r = hw_read_fs(&fs, ret, err);
	return r;
}

int hw_read_path(const char *path, struct hw_host **ret, struct error *err) {
	struct stat st;
	_free_ char *text = NULL;
	size_t len;
	int r;
	if (stat(path, &st) < 0)
		return error_errno(err, errno, "`%s`", path);
	if (S_ISDIR(st.st_mode)) {
		r = hw_read_dir(path, ret, err);
	} else if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode)) {
		r = error_set(err, EINVAL, "it is neither a file, a pipe nor a directory");
	} else {
		r = read_file(path, XML_BYTES_MAX, &text, &len, err);
		if (r < 0)
			return r;
		r = hw_read_text(text, len, ret, err);
	}
	return r < 0 ? error_prefix(err, "%s", path) : 0;
}
