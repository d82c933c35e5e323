if [ "$1" -eq 0 ]; then
	update-alternatives --remove fanfare /usr/libexec/fanfare-publisher/fanfare
	[ ! -d /run/systemd/system ] || systemctl disable --now fanfare-publisher.service || :
fi
