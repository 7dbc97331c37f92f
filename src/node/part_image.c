/* SPDX-License-Identifier: Apache-2.0 */

/* The files of an instance's Image, which its machine reads and which many machines share. */

#include "node/part.h"
#include "vm/image.h"

/* The file HOST is /image/NAME in the container, written to PATH. */
static void image_add(struct guest_look *l, const char *host, const char *name, char path[static VM_PATH_MAX + 1]) {
	l->container.files[l->container.n_files++] = (struct container_file){.host = host, .name = name};
	snprintf(path, VM_PATH_MAX + 1, "/image/%s", name);
}

/* Is what the spec names there, and what it says it is? The message names the file. */
static int image_check(const struct guest_spec *s, struct error *err) {
	uint64_t size;
	const char *field = "spec.disk.file";
	int r;

	if (s->vm.boot != VM_BOOT_KERNEL) {
		r = image_check_disk(s->disk, s->vm.image_format, &size, err);
	} else {
		field = "spec.kernel.kernel";
		r = image_check_kernel(s->kernel, err);
		if (r >= 0 && s->initrd[0]) {
			field = "spec.kernel.initrd";
			r = image_check_initrd(s->initrd, err);
		}
	}
	return r < 0 ? error_prefix(err, "Image `%s`, %s", s->image, field) : 0;
}

static int image_configure(struct guest_look *l, struct error *err) {
	const struct guest_spec *s = l->spec;
	int r = image_check(s, err);

	if (r < 0)
		return r;
	if (s->vm.boot != VM_BOOT_KERNEL) {
		image_add(l, s->disk, "disk", l->vm.image);
		return 0;
	}
	image_add(l, s->kernel, "kernel", l->vm.kernel);
	if (s->initrd[0])
		image_add(l, s->initrd, "initrd", l->vm.initrd);
	return 0;
}

const struct part part_image = {.name = "image", .reason = "ImageUnavailable", .configure = image_configure};
