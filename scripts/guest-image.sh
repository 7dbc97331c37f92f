#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the small guest image of the lab and the tests, from Debian packages only:
# the cloud kernel (unpacked, not installed) and an initramfs of busybox-static.
#
#   guest-image.sh OUTDIR [--disk]
#
# leaves in OUTDIR: vmlinuz, initrd, cmdline and, with --disk, disk.qcow2, which boots
# the same kernel and initramfs by UEFI (a unified kernel image on a FAT partition).
# Nothing is done when OUTDIR is newer than this script. Packages stay in OUTDIR/.cache.
#
# The guest takes its IPv6 address from router advertisements and its IPv4 address by DHCP,
# adds the first address of each nacre.prefix= on its kernel's command line, answers HTTP on
# port 80 with its name (nacre.name=) and addresses, has a shell on the serial console, and
# powers off when the ACPI button is pressed.
set -euo pipefail

die() { echo "guest-image: $*" >&2; exit 1; }

out=${1:?usage: guest-image.sh OUTDIR [--disk]}
want_disk=${2:-}
[ -z "$want_disk" ] || [ "$want_disk" = --disk ] || die "unknown option $want_disk"
self=$(readlink -f "$0")
mkdir -p "$out/.cache"
out=$(readlink -f "$out")
cache=$out/.cache
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT

exec 9>"$cache/lock"
flock 9

# fetch PACKAGE: unpacks it below $cache/root/PACKAGE, once a version.
fetch() {
	local dir=$cache/root/$1 deb
	[ -e "$dir/.done" ] && return
	rm -rf "$dir" && mkdir -p "$dir"
	# apt's sandbox user need not be able to write here.
	(cd "$cache" && apt-get -qq -o APT::Sandbox::User=root download "$1") || die "can't download $1 (apt-get update?)"
	deb=$(find "$cache" -maxdepth 1 -name "$1_*.deb" | head -n 1)
	dpkg-deb -x "$deb" "$dir"
	rm -f "$deb"
	touch "$dir/.done"
}

busybox=$(command -v busybox) || die "install busybox-static"

make_initrd() {
	local kernel_pkg kver mods root=$work/root m
	# The meta package names the current kernel.
	kernel_pkg=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
	[ -n "$kernel_pkg" ] || die "apt knows no linux-image-cloud-amd64 (apt-get update?)"
	fetch "$kernel_pkg"
	kver=${kernel_pkg#linux-image-}
	mods=$cache/root/$kernel_pkg/lib/modules/$kver/kernel

	mkdir -p "$root"/{bin,dev,proc,sys,etc/acpi/PWRF,lib,var/{log,run},www,tmp}
	cp "$busybox" "$root/bin/busybox"
	# Only the names in use: installing all 300 links at boot takes time.
	for m in acpid ash awk cat chmod cut date dd df dmesg echo free grep head hostname httpd id init insmod ip kill \
		ln ls md5sum mkdir mount nc nslookup ping ping6 poweroff printf ps reboot rm sed seq sh sleep stty sync \
		tail tee timeout top touch traceroute traceroute6 true udhcpc uname uptime vi wc wget; do
		ln -s busybox "$root/bin/$m"
	done
	# In the order of their dependencies, so that a plain insmod does.
	local list=(net/core/failover drivers/net/net_failover drivers/virtio/virtio_ring drivers/virtio/virtio
		drivers/virtio/virtio_pci_modern_dev drivers/virtio/virtio_pci_legacy_dev drivers/virtio/virtio_pci
		drivers/net/virtio_net drivers/acpi/button drivers/input/evdev drivers/char/hw_random/virtio-rng
		drivers/block/virtio_blk)
	for m in "${list[@]}"; do
		cp "$mods/$m.ko" "$root/lib/" || die "$kernel_pkg has no module $m"
	done

	cat >"$root/init" <<'INIT'
#!/bin/sh
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
cd /lib
insmod failover.ko; insmod net_failover.ko; insmod virtio_ring.ko; insmod virtio.ko
insmod virtio_pci_modern_dev.ko; insmod virtio_pci_legacy_dev.ko; insmod virtio_pci.ko; insmod virtio_net.ko
cd /
# One router and no neighbours on this link: nothing to detect, nothing to wait for.
echo 0 >/proc/sys/net/ipv6/conf/default/dad_transmits
echo 0 >/proc/sys/net/ipv6/conf/default/router_solicitation_delay
for eth in /sys/class/net/e*; do
	eth=${eth##*/}
	echo 0 >/proc/sys/net/ipv6/conf/$eth/dad_transmits
	echo 0 >/proc/sys/net/ipv6/conf/$eth/router_solicitation_delay
	ip link set $eth up
done
ip link set lo up
name=guest prefixes=
for word in $(cat /proc/cmdline); do
	case $word in
	nacre.name=*) name=${word#*=} ;;
	nacre.prefix=*) prefixes="$prefixes ${word#*=}" ;;
	esac
done
echo ${name##*/} >/proc/sys/kernel/hostname
for p in $prefixes; do
	ip -6 addr add ${p%/*}1/128 dev lo
done
echo "hello from $name" >/www/index.html
httpd -p '[::]:80' -h /www
exec init
INIT
	chmod 755 "$root/init"
	cat >"$root/etc/inittab" <<'INITTAB'
::sysinit:/etc/rc
::respawn:/bin/udhcpc -f -i eth0 -s /etc/udhcpc -O staticroutes -O mtu >/dev/null 2>&1
::respawn:/bin/acpid -f -l /dev/null
ttyS0::respawn:-/bin/sh
::ctrlaltdel:/bin/reboot
::shutdown:/bin/sync
INITTAB
	# What nobody waits for comes after the network is up.
	cat >"$root/etc/rc" <<'RC'
#!/bin/sh
cd /lib
insmod button.ko; insmod evdev.ko; insmod virtio-rng.ko; insmod virtio_blk.ko
RC
	# The gateway is outside the prefix of the address, and only classless routes (RFC 3442) tell how to reach it.
	cat >"$root/etc/udhcpc" <<'DHCP'
#!/bin/sh
case $1 in
deconfig) ip -4 addr flush dev $interface ;;
bound | renew)
	[ -z "$mtu" ] || ip link set $interface mtu $mtu
	ip -4 addr add $ip/${mask:-32} dev $interface 2>/dev/null
	set -- $staticroutes
	while [ -n "$2" ]; do
		case $2 in
		0.0.0.0) ip -4 route replace $1 dev $interface ;;
		*) ip -4 route replace $1 via $2 dev $interface ;;
		esac
		shift 2
	done
	;;
esac
DHCP
	chmod 755 "$root/etc/udhcpc"
	printf '#!/bin/sh\nexec poweroff\n' >"$root/etc/acpi/PWRF/00000080"
	chmod 755 "$root/etc/rc" "$root/etc/acpi/PWRF/00000080"
	printf 'PS1="\\h:\\w# "; export PATH=/bin HOME=/\n' >"$root/etc/profile"
	mkdir -p "$root/www/cgi-bin"
	cat >"$root/www/cgi-bin/info" <<'CGI'
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
hostname
ip -o addr show scope global
CGI
	chmod 755 "$root/www/cgi-bin/info"
	# Uncompressed: reading 3 MB is faster than unpacking 1 MB, above all under TCG.
	(cd "$root" && find . -mindepth 1 -printf '%P\n' | sort | cpio --quiet -o -H newc -R 0:0 --reproducible) >"$work/initrd"
	cp "$cache/root/$kernel_pkg/boot/vmlinuz-$kver" "$work/vmlinuz"
	# no_timer_check: under emulation on a busy host Linux's test of the timer may fail, and it panics.
	echo "console=ttyS0 quiet no_timer_check" >"$work/cmdline"
}

make_disk() {
	local esp=$work/esp.fat stub mtools uki=$work/uki.efi
	fetch systemd-boot-efi
	fetch mtools
	stub=$cache/root/systemd-boot-efi/usr/lib/systemd/boot/efi/linuxx64.efi.stub
	mtools=$cache/root/mtools/usr/bin
	printf 'ID=nacre-guest\n' >"$work/os-release"
	objcopy --add-section .osrel="$work/os-release" --change-section-vma .osrel=0x20000 \
		--add-section .cmdline="$work/cmdline" --change-section-vma .cmdline=0x30000 \
		--add-section .linux="$work/vmlinuz" --change-section-vma .linux=0x2000000 \
		--add-section .initrd="$work/initrd" --change-section-vma .initrd=0x4000000 "$stub" "$uki"
	truncate -s 46M "$esp"
	"$busybox" mkdosfs -n ESP "$esp" >/dev/null
	export MTOOLS_SKIP_CHECK=1
	"$mtools/mmd" -i "$esp" ::EFI ::EFI/BOOT
	"$mtools/mcopy" -i "$esp" "$uki" ::EFI/BOOT/BOOTX64.EFI
	# One partition of type EF (ESP), sectors 2048 to 96255, in a master boot record.
	truncate -s 48M "$work/disk.raw"
	printf '\x00\xfe\xff\xff\xef\xfe\xff\xff\x00\x08\x00\x00\x00\x70\x01\x00' |
		dd of="$work/disk.raw" bs=1 seek=446 conv=notrunc status=none
	printf '\x55\xaa' | dd of="$work/disk.raw" bs=1 seek=510 conv=notrunc status=none
	dd if="$esp" of="$work/disk.raw" bs=1M seek=1 conv=notrunc status=none
	qemu-img convert -q -f raw -O qcow2 "$work/disk.raw" "$work/disk.qcow2"
}

newer() { [ -e "$out/$1" ] && [ "$out/$1" -nt "$self" ]; }

newer initrd && { [ -z "$want_disk" ] || newer disk.qcow2; } && exit 0
make_initrd
[ -z "$want_disk" ] || make_disk
for f in vmlinuz initrd cmdline disk.qcow2; do
	[ ! -e "$work/$f" ] || { chmod 644 "$work/$f" && touch "$work/$f" && mv "$work/$f" "$out/$f"; }
done
