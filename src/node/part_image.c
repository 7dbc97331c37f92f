/* SPDX-License-Identifier: Apache-2.0 */

/* The files of an instance's Image, which its machine reads and which many machines share. */

#include "base/util.h"
#include "node/part.h"
#include "vm/image.h"

/* ---- from the API ---- */

static bool image_names(const struct instance *inst, _unused_ const char *ns, const char *name) {
	return streq(inst->spec->image, name);
}

/* A path below the image directory; the API has checked that it doesn't lead out of the directory. */
static int image_path(const char *dir, const char *file, char out[static VM_PATH_MAX + 1], struct error *err) {
	if ((size_t)snprintf(out, VM_PATH_MAX + 1, "%s/%s", dir, file) > VM_PATH_MAX)
		return error_set(err, ENAMETOOLONG, "`%s/%s` is longer than %d bytes", dir, file, VM_PATH_MAX);
	return 0;
}

static int image_read(const struct image *img, const char *dir, struct guest_spec *g, struct error *err) {
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

static int image_desire(const struct part_source *s, struct guest_spec *spec, struct error *err) {
	const struct image *img = s->get(s, &api_kind_image, NULL, s->inst->spec->image, err);

	if (!img)
		return -err->code;
	int r = image_read(img, s->image_dir, spec, err);
	return r < 0 ? error_prefix(err, "Image `%s`", img->meta.name) : 0;
}

/* ---- on the host ---- */

/* The file HOST becomes /image/NAME in the container; writes that path to PATH. */
static void image_add(struct guest_look *l, const char *host, const char *name, char path[static VM_PATH_MAX + 1]) {
	l->container.files[l->container.n_files++] = (struct container_file){.host = host, .name = name};
	snprintf(path, VM_PATH_MAX + 1, "/image/%s", name);
}

/* Checks that the files that the spec names exist and are what it says. The message names the file. */
static int image_check_files(const struct guest_spec *s, struct error *err) {
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
	int r = image_check_files(s, err);

	if (r < 0)
		return r;
	snprintf(l->vm.image_name, sizeof(l->vm.image_name), "%s", s->image);
	if (s->vm.boot != VM_BOOT_KERNEL) {
		image_add(l, s->disk, "disk", l->vm.image);
		return 0;
	}
	image_add(l, s->kernel, "kernel", l->vm.kernel);
	if (s->initrd[0])
		image_add(l, s->initrd, "initrd", l->vm.initrd);
	return 0;
}

const struct part part_image = {.name = "image",
                                .reason = "ImageUnavailable",
                                .missing = "ImageNotFound",
                                .reads = &api_kind_image,
                                .names = image_names,
                                .desire = image_desire,
                                .configure = image_configure};
