#!/bin/sh
# Installs the service that an earlier step has left in /tmp, so that every
# machine made from the image serves the page from its first boot on.
set -eu

if ! command -v python3 >/dev/null; then
	echo "python3 is not in this base image: add a step that installs it" >&2
	exit 1
fi
sudo install -o root -g root -m 0644 /tmp/hello.service /etc/systemd/system/hello.service
sudo systemctl daemon-reload
sudo systemctl enable hello.service
rm -f /tmp/hello.service
echo "hello.service starts at boot"
