systemd-sysusers fanfare-agent.conf
systemd-tmpfiles --create fanfare-agent.conf || :
own=/usr/libexec/fanfare-agent/fanfare
share=/usr/share/fanfare-agent
update-alternatives --install /usr/bin/fanfare fanfare "$own" 50 \
	--slave /usr/share/man/man1/fanfare.1.gz fanfare.1.gz "$share/fanfare.1.gz" \
	--slave /usr/share/bash-completion/completions/fanfare fanfare.bash "$share/fanfare.bash" \
	--slave /usr/share/zsh/site-functions/_fanfare fanfare.zsh "$share/fanfare.zsh" \
	--slave /usr/share/fish/vendor_completions.d/fanfare.fish fanfare.fish "$share/fanfare.fish"
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
	# Whether it starts with the machine is the distribution's policy: see systemd.preset(5).
	[ "$1" -gt 1 ] || systemctl preset fanfare-agent.service || :
fi
