#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes a Debian 12 cloud image (cloud-init, sshd, systemd-networkd and -resolved) from Debian's packages only. Nothing
# in it knows Nacre.
#
#   debian-image.sh OUTDIR [--force]
#
# leaves in OUTDIR: debian-12.qcow2, which boots by UEFI and by BIOS, and, for a direct kernel boot of the same disk,
# debian-12.vmlinuz, debian-12.initrd and debian-12.cmdline. Nothing is done when they are newer than this script, unless
# --force asks for the newest packages. NACRE_DEBIAN_MIRROR is where the packages come from (default
# http://deb.debian.org/debian; security updates come from the debian-security beside it).
#
# It needs root, mmdebstrap, mtools and fdisk (./dev image installs them), and no loop devices. The disk is written last
# and renamed into place, so a build that is killed leaves no image; the next one removes what is left of it.
#
# The image is made for a quick first boot, above all under software emulation: only an Ed25519 host key, short lists of
# cloud-init's modules, no timers, a small initramfs, a quiet console. Else it is a usual cloud image: root is locked,
# the user `debian` may use sudo and gets its SSH keys from NoCloud or EC2 metadata, the root file system grows to the
# size of the disk, machine id and host keys are made at the first boot.
set -euo pipefail

die() { echo "debian-image: $*" >&2; exit 1; }

out=${1:?usage: debian-image.sh OUTDIR [--force]}
force=${2:-}
[ -z "$force" ] || [ "$force" = --force ] || die "unknown option $force"
self=$(readlink -f "$0")
mirror=${NACRE_DEBIAN_MIRROR:-http://deb.debian.org/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
name=debian-12

# The disk, in sectors of 512 bytes. The root file system comes last, so that it can grow.
DISK=$((2 * 1024 * 2048))
BIOS_START=2048 BIOS_SIZE=2048
ESP_START=4096 ESP_SIZE=$((64 * 2048))
ROOT_START=$((ESP_START + ESP_SIZE)) ROOT_SIZE=$((DISK - ESP_START - ESP_SIZE - 2048))

PACKAGES=(
	linux-image-cloud-amd64 initramfs-tools lz4 grub2-common grub-efi-amd64-bin grub-pc-bin
	systemd-sysv systemd-resolved udev dbus libpam-systemd
	cloud-init cloud-guest-utils openssh-server sudo
	ca-certificates curl iproute2 iputils-ping less netbase vim-tiny
)

newer() { [ -e "$out/$1" ] && [ "$out/$1" -nt "$self" ]; }

check_tools() {
	local tool
	[ "$(id -u)" = 0 ] || die "run it as root"
	for tool in mmdebstrap:mmdebstrap mcopy:mtools sfdisk:fdisk mke2fs:e2fsprogs qemu-img:qemu-utils; do
		command -v "${tool%:*}" >/dev/null || die "install ${tool#*:} (./dev image debian does)"
	done
	[ -e "$keyring" ] || die "install debian-archive-keyring"
}

install_packages() {
	local sources=$work/sources.list
	cat >"$sources" <<-LIST
		deb $mirror bookworm main
		deb $mirror bookworm-updates main
		deb $mirror-security bookworm-security main
	LIST
	# No documentation and translations: a third of the size.
	mmdebstrap --quiet --mode=root --variant=apt --architectures=amd64 --keyring="$keyring" \
		--include="${PACKAGES[*]}" --aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
		bookworm "$root" - <"$sources" ||
		die "can't install Debian's packages from $mirror; is there a network?"
}

# write PATH: writes standard input to that file of the image.
write() {
	mkdir -p "$root/$(dirname "$1")"
	cat >"$root/$1"
}

configure_cloud_init() {
	write etc/cloud/cloud.cfg.d/90_datasources.cfg <<-'CFG'
		datasource_list: [NoCloud, Ec2, None]
	CFG
	write etc/cloud/cloud.cfg.d/90_hosts.cfg <<-'CFG'
		# The host name has a line in /etc/hosts, which is written anew at each boot.
		manage_etc_hosts: true
	CFG
	write etc/cloud/cloud.cfg.d/90_ssh.cfg <<-'CFG'
		# User data with `ssh_pwauth: true` override this.
		ssh_pwauth: false
	CFG
	# cloud-init sets ssh_pwauth in this file. Where the line is right already, it needn't write it and restart sshd.
	write etc/ssh/sshd_config.d/50-cloud-init.conf <<-'CFG'
		PasswordAuthentication no
	CFG
	# Without network configuration from the metadata, cloud-init 22.4 would write one that names DHCPv4 only.
	write etc/cloud/cloud.cfg.d/90_network.cfg <<-'CFG'
		# Metadata with a network configuration overrides this; without it /etc/systemd/network/90-default.network is used.
		network: {config: disabled}
		system_info:
		  network:
		    renderers: [networkd]
		    activators: [networkd]
	CFG
	write etc/systemd/network/90-default.network <<-'NETWORK'
		# Any network: IPv4 by DHCP, IPv6 by router advertisements and, if they say so, DHCPv6. One of them is enough.
		[Match]
		Type=ether
		Kind=!*

		[Network]
		DHCP=yes
		IPv6AcceptRA=yes

		[DHCPv4]
		UseDomains=yes

		[DHCPv6]
		UseDomains=yes

		[IPv6AcceptRA]
		UseDomains=yes
	NETWORK
	write etc/cloud/cloud.cfg.d/90_quick.cfg <<-'CFG'
		# Each module costs seconds under software emulation. What isn't listed: Ubuntu's modules, configuration management,
		# grub-dpkg (there is no GRUB package that asks for a device), keyboard, locale (it is C.UTF-8). The root file system
		# grows in the second stage, when sshd already answers, and before packages and commands of user-data.
		ssh_genkeytypes: [ed25519]
		cloud_init_modules: [bootcmd, write-files, disk_setup, mounts, set_hostname, update_hostname,
		  update_etc_hosts, ca-certs, users-groups, ssh]
		cloud_config_modules: [growpart, resizefs, set-passwords, apt-configure, ntp, timezone, runcmd]
		cloud_final_modules: [package-update-upgrade-install, write-files-deferred, scripts-vendor, scripts-per-once,
		  scripts-per-boot, scripts-per-instance, scripts-user, keys-to-console, phone-home, final-message, power-state-change]
	CFG
}

configure_system() {
	local unit
	write etc/fstab <<-FSTAB
		PARTUUID=$root_partuuid / ext4 rw,discard,errors=remount-ro 0 1
		PARTUUID=$esp_partuuid /boot/efi vfat umask=0077,noauto,nofail 0 0
	FSTAB
	mkdir -p "$root/boot/efi"
	printf 'localhost\n' | write etc/hostname
	printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' | write etc/hosts
	printf 'LANG=C.UTF-8\n' | write etc/default/locale
	ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
	for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
		e2scrub_reap.service systemd-binfmt.service; do
		ln -sf /dev/null "$root/etc/systemd/system/$unit"
	done
	chroot "$root" systemctl --quiet enable systemd-networkd systemd-resolved ssh
	chroot "$root" passwd --quiet --lock root
}

configure_boot() {
	write etc/initramfs-tools/conf.d/quick <<-'CONF'
		MODULES=list
		COMPRESS=lz4
	CONF
	printf '%s\n' virtio_pci virtio_blk virtio_scsi sd_mod ext4 >>"$root/etc/initramfs-tools/modules"
	write etc/default/grub <<-GRUB
		GRUB_TIMEOUT=0
		GRUB_DISTRIBUTOR=Debian
		GRUB_CMDLINE_LINUX_DEFAULT=
		GRUB_CMDLINE_LINUX="$parameters"
		GRUB_TERMINAL=console
		GRUB_DISABLE_OS_PROBER=true
	GRUB
	# update-grub replaces this when a kernel is installed; it needs the real disk. With UEFI `linux` looks for a graphics
	# mode and complains if the machine has no display; `linuxefi` leaves that to the kernel.
	write boot/grub/grub.cfg <<-GRUB
		if [ "\$grub_platform" = efi ]; then
		  linuxefi /vmlinuz root=PARTUUID=$root_partuuid ro $parameters
		  initrdefi /initrd.img
		else
		  linux /vmlinuz root=PARTUUID=$root_partuuid ro $parameters
		  initrd /initrd.img
		fi
		boot
	GRUB
	chroot "$root" update-initramfs -u -k all >/dev/null
}

# Removes what belongs to one machine, or to the build.
clean_tree() {
	rm -f "$root"/etc/ssh/ssh_host_*_key* "$root/var/lib/dbus/machine-id" "$root"/var/log/*.log "$root"/var/log/apt/*
	rm -rf "$root"/var/cache/apt/*.bin "$root"/var/lib/apt/lists/* "$root"/var/lib/cloud/* "$root"/var/cache/debconf/*-old
	: >"$root/etc/machine-id"
}

make_esp() {
	local esp=$work/esp.fat
	write boot/grub/early.cfg <<-CFG
		search --no-floppy --fs-uuid --set=root $root_uuid
		set prefix=(\$root)/boot/grub
		configfile \$prefix/grub.cfg
	CFG
	chroot "$root" grub-mkimage -O x86_64-efi -o /boot/grub/core.efi -p /boot/grub -c /boot/grub/early.cfg \
		part_gpt ext2 search search_fs_uuid configfile linux linuxefi normal boot echo test
	chroot "$root" grub-mkimage -O i386-pc -o /boot/grub/core.img -p /boot/grub -c /boot/grub/early.cfg \
		biosdisk part_gpt ext2 search search_fs_uuid configfile linux normal boot echo test
	mv "$root/boot/grub/core.efi" "$root/boot/grub/core.img" "$work"
	cp "$root/usr/lib/grub/i386-pc/boot.img" "$work"
	rm "$root/boot/grub/early.cfg"
	truncate -s $((ESP_SIZE * 512)) "$esp"
	mformat -i "$esp" -T $ESP_SIZE -h 255 -s 63 -v ESP ::
	mmd -i "$esp" ::EFI ::EFI/BOOT
	mcopy -i "$esp" "$work/core.efi" ::EFI/BOOT/BOOTX64.EFI
}

# poke FILE OFFSET BYTES: writes bytes, in the notation of printf.
poke() {
	# shellcheck disable=SC2059
	printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# at FILE SECTOR: writes the file into the disk.
at() { dd if="$1" of="$disk" bs=512 seek="$2" conv=notrunc,sparse status=none; }

make_disk() {
	truncate -s $((DISK * 512)) "$disk"
	sfdisk --quiet "$disk" <<-TABLE
		label: gpt
		14: start=$BIOS_START, size=$BIOS_SIZE, type=21686148-6449-6E6F-744E-656564454649
		15: start=$ESP_START, size=$ESP_SIZE, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=$esp_partuuid
		1: start=$ROOT_START, size=$ROOT_SIZE, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid=$root_partuuid
	TABLE
	at "$work/esp.fat" $ESP_START
	mke2fs -q -t ext4 -U "$root_uuid" -L root -O ^orphan_file,^metadata_csum_seed -E offset=$((ROOT_START * 512)) \
		-d "$root" "$disk" $((ROOT_SIZE / 2))k
	# For BIOS: boot.img, without its place for the partition table, loads the first sector of core.img (0x5c) from the
	# BIOS's boot drive (0x64: 0xff), and that one the rest (0x1f4).
	[ "$(stat -c %s "$work/core.img")" -le $((BIOS_SIZE * 512)) ] || die "GRUB for BIOS is too large"
	poke "$work/boot.img" $((0x5c)) '\x00\x08\x00\x00\x00\x00\x00\x00\xff'
	poke "$work/core.img" $((0x1f4)) '\x01\x08\x00\x00\x00\x00\x00\x00'
	dd if="$work/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
	at "$work/core.img" $BIOS_START
	qemu-img convert -q -f raw -O qcow2 -c -o compression_type=zstd "$disk" "$work/$name.qcow2"
}

mkdir -p "$out"
out=$(readlink -f "$out")
exec 9>"$out/.debian.lock"
# A build that was killed may still have children, which hold this lock too.
flock 9
[ -z "$force" ] && newer $name.qcow2 && newer $name.vmlinuz && newer $name.initrd && newer $name.cmdline && exit 0
check_tools
rm -rf "$out"/.debian.work.*
work=$(mktemp -d "$out/.debian.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
umask 022
root=$work/root disk=$work/disk.raw
root_uuid=$(</proc/sys/kernel/random/uuid) root_partuuid=$(</proc/sys/kernel/random/uuid)
esp_partuuid=$(</proc/sys/kernel/random/uuid)
# no_timer_check: under emulation on a busy host Linux's test of the timer may fail, and it panics.
parameters="console=tty0 console=ttyS0 quiet no_timer_check"

install_packages
configure_cloud_init
configure_system
configure_boot
clean_tree
make_esp
make_disk
cp -L "$root/vmlinuz" "$work/$name.vmlinuz"
cp -L "$root/initrd.img" "$work/$name.initrd"
echo "root=PARTUUID=$root_partuuid ro $parameters" >"$work/$name.cmdline"
rm -f "$out/$name.qcow2"
for f in $name.vmlinuz $name.initrd $name.cmdline $name.qcow2; do
	chmod 644 "$work/$f" && touch "$work/$f" && mv "$work/$f" "$out/$f"
done
