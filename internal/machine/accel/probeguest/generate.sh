#!/bin/sh
# Assembles the probe's guest; needs binutils. Run after each change of guest.S.
set -eu
cd "$(dirname "$0")"
object=$(mktemp)
trap 'rm -f "$object"' EXIT
as --64 -o "$object" guest.S
ld -m elf_x86_64 --oformat binary -Ttext 0x100000 -o guest.bin "$object"
chmod 644 guest.bin
sha256sum guest.S > guest.S.sha256
