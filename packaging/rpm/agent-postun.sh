if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
	[ "$1" -lt 1 ] || systemctl try-restart fanfare-agent.service || :
fi
